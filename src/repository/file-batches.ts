/** Hands changed files to the hands in batches, large files in parts, and brings their contents back. Runs in the lead of a backup. */

import type { Bytes } from '../model.ts'
import type { Bridge } from './bridge.ts'
import type { ChunkTable } from './chunk-table.ts'
import type { FormerFile } from './chunker.ts'
import { type Content, ContentBuilder, type StoreList } from './content.ts'
import type { IndexWriter } from './index-writer.ts'
import type { FileResult, FileTask, ReadFilesAnswer } from './read-files.ts'
import type { SourceDirectory } from './source-file.ts'
import type { TreeStat } from './tree-record.ts'

export interface ReadContent {
  readonly content: Content
  readonly profile: number
  readonly changed: boolean
  readonly stat: TreeStat | undefined
}

const batchBytes = 8 * 2 ** 20
const batchFiles = 256
/** Larger files are read in parts of this length, by several hands at once. */
const partLength = 256 * 2 ** 20
/** Batches given out: enough to keep the hands busy, few enough to keep directories closed. */
const mostOutstanding = 6

type Done = (result: FileResult | null) => void

export class FileBatches {
  readonly #bridge: Bridge
  readonly #table: ChunkTable
  readonly #index: IndexWriter
  readonly #storeList: StoreList
  #tasks: FileTask[] = []
  #done: Done[] = []
  #bytes = 0
  outstanding = 0
  bytesRead: Bytes = 0

  constructor(bridge: Bridge, table: ChunkTable, index: IndexWriter, storeList: StoreList) {
    this.#bridge = bridge
    this.#table = table
    this.#index = index
    this.#storeList = storeList
  }

  /** Reads the file `name`; `done` gets its content after a later `flush` and pump, or null when it is gone. */
  add(
    directory: SourceDirectory,
    name: string,
    file: { readonly size: Bytes; readonly ctimeNs: bigint; readonly former: FormerFile | undefined },
    done: (content: ReadContent | null) => void,
  ): void {
    const task = { path: directory.path(name), ctimeNs: file.ctimeNs, former: file.former }
    const parts = Math.ceil(file.size / partLength)
    const results: (FileResult | null)[] = []
    let missing = Math.max(1, parts)
    directory.use()
    const arrived = (index: number, result: FileResult | null) => {
      results[index] = result
      if (--missing > 0) return
      directory.release()
      done(this.#joined(results))
    }
    if (parts <= 1) return this.#push(task, file.size, (result) => arrived(0, result))
    for (let i = 0; i < parts; i++) {
      const part = { start: i * partLength, end: Math.min(file.size, (i + 1) * partLength) }
      this.#push({ ...task, part }, part.end - part.start, (result) => arrived(i, result))
    }
  }

  #push(task: FileTask, bytes: Bytes, done: Done): void {
    this.#tasks.push(task)
    this.#done.push(done)
    this.#bytes += bytes
    if (this.#bytes >= batchBytes || this.#tasks.length >= batchFiles) this.flush()
  }

  #joined(results: readonly (FileResult | null)[]): ReadContent | null {
    const [first] = results
    if (!first || results.includes(null)) return null
    const changed = results.some((result) => result?.changed)
    if (results.length === 1) {
      return { content: contentOf(first), profile: first.profile, changed, stat: first.stat }
    }
    const builder = new ContentBuilder(this.#storeList, 1)
    for (const result of results) if (result) builder.addReferences(contentOf(result).references)
    return { content: builder.finish(), profile: first.profile, changed, stat: undefined }
  }

  /** Gives out what has been collected; waits while much is given out already. */
  flush(): void {
    const [tasks, done] = [this.#tasks, this.#done]
    if (tasks.length === 0) return
    this.#tasks = []
    this.#done = []
    this.#bytes = 0
    this.#bridge.pumpUntil(() => this.outstanding < mostOutstanding)
    this.outstanding++
    this.#bridge.post('hand', { task: 'readFiles', args: { table: this.#table.shared, tasks } }, (answer) => {
      this.outstanding--
      const { files, packs, bytes } = answer as ReadFilesAnswer
      this.bytesRead += bytes
      this.#index.add(packs)
      files.forEach((file, i) => done[i]?.(file))
    })
  }

  /** Waits for the last batch and makes durable what the hands have stored. */
  finish(): void {
    this.flush()
    this.#bridge.pumpUntil(() => this.outstanding === 0)
    const packs = this.#bridge.call('hand', { task: 'every:flushFiles', args: { table: this.#table.shared } })
    this.#index.add((packs as IndexedPacks[]).flat())
  }
}

type IndexedPacks = ReadFilesAnswer['packs']

function contentOf({ level, references }: FileResult): Content {
  return { level, references: Buffer.from(references.buffer, references.byteOffset, references.byteLength) }
}
