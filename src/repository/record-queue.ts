/** Brings records into the tree's order: those of unchanged files are there at once, others when their content has been read. */

import type { Content } from './content.ts'
import type { SegmentBuilder } from './segment.ts'
import { encodeRecord, flags, type TreeStat } from './tree-record.ts'

/** A record that waits for its content, its attributes, or both. */
export class PendingRecord {
  readonly name: Buffer
  stat: TreeStat
  target: Buffer | undefined
  content: Content | undefined
  profile = 0
  flags = 0
  attributes: Buffer | undefined
  attributesId: Buffer | undefined
  /** The file is gone: there will be no record. */
  dropped = false
  #missing = 0

  constructor(name: Buffer, stat: TreeStat) {
    this.name = name
    this.stat = stat
  }

  /** One more thing must arrive before the record is complete. */
  expect(): void {
    this.#missing++
  }

  arrived(): void {
    this.#missing--
  }

  get isComplete(): boolean {
    return this.#missing === 0
  }

  encode(): Buffer {
    const { name, stat, target, content, profile, attributes, attributesId } = this
    return encodeRecord({ ...stat, flags: this.flags, profile, name, target, content, attributes, attributesId })
  }

  get hasChanged(): boolean {
    return (this.flags & flags.changed) !== 0
  }
}

interface Item {
  readonly directory: Buffer
  readonly name: Buffer
  readonly record: Buffer | PendingRecord
}

export class RecordQueue {
  readonly #builder: SegmentBuilder
  readonly #written: (record: PendingRecord) => void
  #items: Item[] = []
  #first = 0

  /** @param written is told of each pending record that went out */
  constructor(builder: SegmentBuilder, written: (record: PendingRecord) => void) {
    this.#builder = builder
    this.#written = written
  }

  /** Bytes of a record are taken at once: they may be a view of what goes away. */
  add(directory: Buffer, name: Buffer, record: Buffer | PendingRecord): void {
    if (!Buffer.isBuffer(record)) this.#items.push({ directory, name, record })
    else if (this.length === 0) this.#builder.add(directory, name, record)
    else this.#items.push({ directory, name, record: Buffer.from(record) })
  }

  get length(): number {
    return this.#items.length - this.#first
  }

  /** Passes on what is complete, up to the first that is not. */
  drain(): void {
    while (this.length > 0) {
      const { directory, name, record } = this.#items[this.#first] as Item
      if (Buffer.isBuffer(record)) this.#builder.add(directory, name, record)
      else if (!record.isComplete) {
        this.#shorten()
        return
      } else if (!record.dropped) {
        this.#builder.add(directory, name, record.encode())
        this.#written(record)
      }
      this.#first++
    }
    this.#items = []
    this.#first = 0
  }

  #shorten(): void {
    if (this.#first < 10_000) return
    this.#items = this.#items.slice(this.#first)
    this.#first = 0
  }
}
