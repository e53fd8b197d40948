/**
 * "A prune is at work" (FORMAT.md 8.3). Spares double work, no more: prune is safe beside another. Ages are taken from the store's clock only, and a lease
 * that is not renewed is worth nothing after five minutes, so that a machine that died holds up nobody. Runs in workers.
 */

import { hostname } from 'node:os'
import { AppError, isAppError } from '../errors.ts'
import type { ListedObject } from './bridge.ts'
import { fetched } from './known-chunks.ts'
import { folders, idOf, newId, objectName } from './layout.ts'
import type { TaskContext } from './tasks.ts'

const lifeMs = 5 * 60_000
const renewAfterMs = 60_000

interface Held extends ListedObject {
  readonly holder: string
  readonly host: string
}

export class Lease {
  readonly #context: TaskContext
  readonly #holder = newId('leases')
  #name: string
  #renewedAt = Date.now()

  /** @throws ABORTED while another prune is at work */
  constructor(context: TaskContext) {
    this.#context = context
    this.#name = this.#write()
    const held = this.#read()
    const mine = held.find(({ key }) => key === this.#name)
    if (!mine) throw new AppError('UNAVAILABLE', 'the store does not list the lease that was just written; try again')
    const isAlive = (other: Held) => mine.modifiedAtMs - other.modifiedAtMs < lifeMs
    const other = held.find((one) => one.holder !== this.#holder && isAlive(one) && isBefore(one, mine))
    if (other) {
      this.release()
      throw new AppError(
        'ABORTED',
        `another prune of this repository is at work on ${other.host}; try again when it has ended`,
      )
    }
    this.#remove(held.filter((one) => !isAlive(one)).map(({ key }) => key))
  }

  /** The store's time when the lease was taken, ms. */
  get storeTimeMs(): number {
    return this.#read().find(({ key }) => key === this.#name)?.modifiedAtMs ?? Date.now()
  }

  /** Call it often. */
  renew(): void {
    if (Date.now() - this.#renewedAt < renewAfterMs) return
    this.#renewedAt = Date.now()
    const old = this.#name
    this.#name = this.#write()
    this.#remove([old])
  }

  release(): void {
    this.#remove([this.#name])
  }

  #write(): string {
    const name = objectName('leases', newId('leases'))
    const content = Buffer.from(JSON.stringify({ version: 1, holder: this.#holder, host: hostname() }))
    const bytes = new Uint8Array(this.#context.seal.sealObject('L', name, content))
    this.#context.bridge.call('put', { key: name, bytes }, [bytes.buffer])
    return name
  }

  #read(): Held[] {
    const listed = [...this.#context.bridge.list(folders.leases)].filter(({ key }) => idOf('leases', key))
    const byKey = new Map(listed.map((object) => [object.key, object]))
    const held: Held[] = []
    for (const { name, object } of fetched(this.#context.bridge, listed)) {
      const about = this.#open(name, object)
      const stored = byKey.get(name)
      if (stored) held.push({ ...stored, ...about })
    }
    return held
  }

  /** A lease that does not open is somebody's: it holds up a prune for as long as any other, and is removed then. */
  #open(name: string, object: Uint8Array): { holder: string; host: string } {
    try {
      const { holder, host } = JSON.parse(Buffer.from(this.#context.seal.openObject('L', name, object)).toString())
      return { holder: String(holder), host: String(host) }
    } catch (error) {
      if (isAppError(error, 'CORRUPT') || error instanceof SyntaxError) return { holder: '', host: 'an unknown host' }
      throw error
    }
  }

  #remove(keys: readonly string[]): void {
    if (keys.length > 0) this.#context.bridge.call('delete', { keys })
  }
}

function isBefore(a: Held, b: Held): boolean {
  return a.modifiedAtMs !== b.modifiedAtMs ? a.modifiedAtMs < b.modifiedAtMs : a.holder < b.holder
}
