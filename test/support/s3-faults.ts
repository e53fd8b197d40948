/**
 * A plan of what goes wrong in a test server, and the proof that all of it did: a planted fault that was never met is a
 * failed test.
 */

import { inspect } from 'node:util'

export type Operation = 'put' | 'get' | 'head' | 'list' | 'delete' | 'delete-many' | 'head-bucket'

export type Effect =
  /** Does nothing and answers so. */
  | { readonly kind: 'fail'; readonly status: number; readonly code: string }
  /** Never answers. */
  | { readonly kind: 'stall' }
  /** Answers late. */
  | { readonly kind: 'slow'; readonly ms: number }
  /** Ends the connection when this much of the body has come; nothing is stored. */
  | { readonly kind: 'cut-upload'; readonly after: number }
  /** Turns a bit of the body before it is looked at. */
  | { readonly kind: 'damage-upload' }
  /** Does what was asked, and ends the connection after this much of the answer's body. */
  | { readonly kind: 'cut-answer'; readonly after: number }
  /** Does what was asked, and ends the connection without an answer. */
  | { readonly kind: 'lose-answer' }
  /** Answers 200 and has stored only the first bytes, or nothing. */
  | { readonly kind: 'lie'; readonly keep: number | 'nothing' }
  /** Turns a bit of the answer's body. */
  | { readonly kind: 'flip-bit' }
  /** Leaves these keys out of a listing. */
  | { readonly kind: 'forget'; readonly keys: RegExp }

export interface Fault {
  readonly on: Operation
  /** Only for keys like this; of a listing, its prefix. */
  readonly key?: RegExp
  /** Let this many pass first; default 0. */
  readonly skip?: number
  /** Strike this often; default 1. */
  readonly times?: number
  readonly effect: Effect
}

export interface FaultPlan {
  add(...faults: readonly Fault[]): void
  /** The effect for this request, if one is due; the first fault of the plan that matches counts. */
  strike(operation: Operation, key: string): Effect | undefined
  /** @throws for faults that have not struck as often as planned */
  assertAllMet(): void
}

export function createFaultPlan(): FaultPlan {
  const planted: { readonly fault: Fault; skip: number; left: number }[] = []
  return {
    add(...faults) {
      planted.push(...faults.map((fault) => ({ fault, skip: fault.skip ?? 0, left: fault.times ?? 1 })))
    },
    strike(operation, key) {
      const due = planted.find(
        ({ fault, left }) => left > 0 && fault.on === operation && (fault.key?.test(key) ?? true),
      )
      if (!due) return undefined
      if (due.skip > 0) {
        due.skip--
        return undefined
      }
      due.left--
      return due.fault.effect
    },
    assertAllMet() {
      const unmet = planted.filter((it) => it.left > 0)
      if (unmet.length > 0) throw new Error(`planted faults that were never met: ${inspect(unmet, { depth: 4 })}`)
    },
  }
}
