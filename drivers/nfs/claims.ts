/**
 * Claims: the right of one node to something, kept in files on the share so that two nodes never have the same one. A
 * claim of `key` is a directory of files whose names are numbers, the epochs; the highest one says who has it, or that
 * nobody has. Taking it is making the next number, which only one node can; the highest is never removed, so that a
 * slow node cannot make an old number anew. No clock is compared: whether a holder lives is its caller's to say
 * (nodes.ts).
 */

import { randomUUID } from 'node:crypto'
import { link, mkdir, rename, rm } from 'node:fs/promises'
import { AppError } from '../../src/errors.ts'
import { ignoring, readdirOrNothing } from '../../src/system/files.ts'
import { field, readJson, writeNew } from './json-file.ts'

/** Who has a claim. */
export interface Holder {
  readonly node: string
  /** For people. */
  readonly name: string
  /** Of the process that took it: when that is gone, what it held only for itself is free. */
  readonly session: string
}

/** A claim of ours. */
export interface Claim {
  readonly key: string
  readonly epoch: number
  readonly token: string
}

/** Who has it instead. */
export interface Taken {
  readonly holder: Holder
  readonly epoch: number
}

interface Entry {
  readonly epoch: number
  /** Null: it has been given back, or cannot be read. */
  readonly holder: (Holder & { readonly token: string }) | null
}

const attempts = 20

export class Claims {
  readonly #folder: string
  readonly #me: Holder
  /** Tokens of what this process has, or is taking. What is told to be its own otherwise it could not give back. */
  readonly #live = new Set<string>()

  constructor(folder: string, me: Holder) {
    this.#folder = folder
    this.#me = me
  }

  /**
   * Takes a claim that nobody has, or whose holder may be passed over.
   * @param mayPass told the holder @returns the claim, or who has it
   */
  async take(key: string, mayPass: (holder: Holder) => boolean): Promise<Claim | Taken> {
    const folder = `${this.#folder}/${key}`
    await ignoring(mkdir(folder, { mode: 0o700 }), 'EEXIST')
    for (let attempt = 0; attempt < attempts; attempt++) {
      const top = await this.#top(key)
      if (top?.holder && !this.#isForgotten(top.holder) && !mayPass(top.holder)) {
        return { holder: top.holder, epoch: top.epoch }
      }
      const claim = { key, epoch: (top?.epoch ?? 0) + 1, token: randomUUID() }
      if (await this.#make(claim)) {
        await this.#removeBelow(claim)
        return claim
      }
    }
    throw new AppError('ABORTED', `other nodes keep taking ${key}; try again`)
  }

  /** Who has it, dead or alive; null: nobody. */
  async holder(key: string): Promise<Taken | null> {
    const top = await this.#top(key)
    return top?.holder ? { holder: top.holder, epoch: top.epoch } : null
  }

  /** Whether a claim of ours still is the highest. */
  async isOurs(claim: Claim): Promise<boolean> {
    const top = await this.#top(claim.key)
    return top?.epoch === claim.epoch && top.holder?.token === claim.token
  }

  /** A claim that an earlier process of this node has taken, to go on with. */
  async own(key: string): Promise<Claim | null> {
    const top = await this.#top(key)
    if (top?.holder?.node !== this.#me.node) return null
    return { key, epoch: top.epoch, token: top.holder.token }
  }

  /**
   * Gives it back. One that somebody else has taken over stays theirs: a lower number says nothing. When it throws,
   * this process may take it again all the same, and others when it has ended.
   */
  async release({ key, epoch, token }: Claim): Promise<void> {
    this.#live.delete(token)
    const [folder, draft] = [`${this.#folder}/${key}`, this.#draft(key)]
    if (
      !(await ignoring(
        writeNew(draft, {}).then(() => true),
        'ENOENT',
      ))
    )
      return
    await rename(draft, `${folder}/${epoch}`)
  }

  /** Forgets all of a key that nobody will ever ask for again. */
  async forget(key: string): Promise<void> {
    await rm(`${this.#folder}/${key}`, { recursive: true, force: true })
  }

  async #make({ key, epoch, token }: Claim): Promise<boolean> {
    const [place, draft] = [`${this.#folder}/${key}/${epoch}`, this.#draft(key)]
    this.#live.add(token)
    let mine = false
    try {
      await writeNew(draft, { ...this.#me, token })
      const made = await ignoring(
        link(draft, place).then(() => true),
        'EEXIST',
      )
      // The answer to the first try may have been lost, and the second one then meets what the first has made.
      mine = made ?? (await this.#read(key, epoch))?.holder?.token === token
      return mine
    } finally {
      if (!mine) this.#live.delete(token)
      await rm(draft, { force: true })
    }
  }

  #isForgotten({ session, token }: Holder & { readonly token: string }): boolean {
    return session === this.#me.session && !this.#live.has(token)
  }

  #draft(key: string): string {
    return `${this.#folder}/${key}/.${randomUUID()}`
  }

  async #top(key: string): Promise<Entry | undefined> {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const epoch = Math.max(0, ...(await this.#epochs(key)))
      if (epoch === 0) return undefined
      const entry = await this.#read(key, epoch)
      if (entry) return entry
      // It was removed because there is a higher one now.
    }
    throw new AppError('ABORTED', `other nodes keep taking ${key}; try again`)
  }

  async #epochs(key: string): Promise<number[]> {
    const names = await readdirOrNothing(`${this.#folder}/${key}`)
    return names.filter((name) => /^[1-9]\d{0,14}$/.test(name)).map(Number)
  }

  /** @returns undefined when it is gone */
  async #read(key: string, epoch: number): Promise<Entry | undefined> {
    const content = await readJson(`${this.#folder}/${key}/${epoch}`)
    if (content === undefined) return undefined
    const [node, name, session, token] = ['node', 'name', 'session', 'token'].map((part) => field(content, part))
    if (node === undefined || name === undefined || session === undefined || token === undefined) {
      return { epoch, holder: null }
    }
    return { epoch, holder: { node, name, session, token } }
  }

  async #removeBelow({ key, epoch }: Claim): Promise<void> {
    const lower = (await this.#epochs(key)).filter((number) => number < epoch)
    await Promise.all(lower.map((number) => rm(`${this.#folder}/${key}/${number}`, { force: true })))
  }
}

/** Whether `take` has succeeded. */
export function isClaim(result: Claim | Taken): result is Claim {
  return 'token' in result
}
