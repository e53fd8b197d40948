import { setTimeout as later } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { AppError } from '../../../src/errors.ts'
import { bounded, createGate, sleep } from '../../../src/objectstore/waiting.ts'

const late = () => new AppError('TIMEOUT', 'late')
const never = () => new Promise<never>(() => undefined)

describe('bounded', () => {
  it('gives what the work gives', async () => {
    expect(await bounded({ ms: 1000, late }, async () => 7)).toBe(7)
  })

  it('ends work that never does, and aborts the signal it was given', async () => {
    let seen: AbortSignal | undefined
    const work = (signal: AbortSignal) => {
      seen = signal
      return never()
    }
    await expect(bounded({ ms: 10, late }, work)).rejects.toMatchObject({ code: 'TIMEOUT' })
    expect(seen?.aborted).toBe(true)
  })

  it('leaves with the reason of its signal, at once and later', async () => {
    const reason = new AppError('CANCELLED', 'enough')
    await expect(bounded({ ms: 1000, late, signal: AbortSignal.abort(reason) }, never)).rejects.toBe(reason)
    const controller = new AbortController()
    setTimeout(() => controller.abort(reason), 5)
    await expect(bounded({ ms: 1000, late, signal: controller.signal }, never)).rejects.toBe(reason)
  })
})

describe('sleep', () => {
  it('wakes on abort', async () => {
    const controller = new AbortController()
    setTimeout(() => controller.abort(new Error('up')), 5)
    await expect(sleep(60_000, controller.signal)).rejects.toThrow('up')
  })
})

describe('a gate', () => {
  it('lets in no more than its places, in order', async () => {
    const gate = createGate(2)
    const order: number[] = []
    let inside = 0
    let most = 0
    const visit = async (number: number) => {
      const leave = await gate.enter()
      order.push(number)
      most = Math.max(most, ++inside)
      await later(2)
      inside--
      leave()
    }
    await Promise.all([1, 2, 3, 4, 5].map(visit))
    expect(most).toBe(2)
    expect(order).toEqual([1, 2, 3, 4, 5])
  })

  it('forgets who gave up waiting', async () => {
    const gate = createGate(1)
    const leave = await gate.enter()
    const controller = new AbortController()
    const waiting = gate.enter(controller.signal)
    controller.abort(new Error('given up'))
    await expect(waiting).rejects.toThrow('given up')
    leave()
    const again = await gate.enter(AbortSignal.timeout(100))
    again()
  })
})
