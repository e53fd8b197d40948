/** Hands changed files to the hands in batches, large files in parts, and brings their contents back. Runs in the lead of a backup. */

import { closeSync } from 'node:fs'
import type { Bytes } from '../model.ts'
import type { Bridge } from './bridge.ts'
import type { ChunkTable } from './chunk-table.ts'
import { type FormerFile, profiles } from './chunker.ts'
import { type Content, ContentBuilder, type StoreList } from './content.ts'
import { clipExtents, type Extent, mappedExtents } from './data-extents.ts'
import { flushHands } from './hand-writer.ts'
import type { IndexWriter } from './index-writer.ts'
import type { Progress } from './progress.ts'
import type { FileResult, FileTask, ReadFilesAnswer } from './read-files.ts'
import { openNoFollow, type SourceDirectory } from './source-file.ts'
import type { TreeStat } from './tree-record.ts'

export interface ReadContent {
  readonly content: Content
  readonly profile: number
  readonly changed: boolean
  readonly stat: TreeStat | undefined
}

export interface ChangedFile {
  readonly size: Bytes
  readonly ctimeNs: bigint
  readonly former: FormerFile | undefined
  /** It has fewer blocks than its size needs. */
  readonly isSparse: boolean
}

interface Part {
  readonly start: Bytes
  readonly end: Bytes
  readonly isHole: boolean
  readonly task: FileTask
  result: FileResult | null
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
  readonly #progress: Progress
  outstanding = 0

  constructor(bridge: Bridge, table: ChunkTable, index: IndexWriter, progress: Progress, storeList: StoreList) {
    this.#bridge = bridge
    this.#table = table
    this.#index = index
    this.#progress = progress
    this.#storeList = storeList
  }

  /** Reads the file `name`; `done` gets its content after a later `flush` and pump, or null when it is gone. */
  add(directory: SourceDirectory, name: string, file: ChangedFile, done: (content: ReadContent | null) => void): void {
    const { size, ctimeNs, former } = file
    const task = { path: directory.path(name), shown: `${directory.shown}/${name}`, ctimeNs, former }
    directory.use()
    if (size <= partLength) {
      this.#push(task, size, (result) => {
        directory.release()
        done(result && { ...result, content: contentOf(result), stat: result.stat })
      })
      return
    }
    const parts = this.#parts(task, file)
    let missing = parts.length
    parts.forEach((part) => {
      const arrived = (result: FileResult | null) => {
        part.result = result
        if (--missing > 0) return
        directory.release()
        done(this.#joined(parts))
      }
      if (part.isHole) {
        this.#progress.add(part.end - part.start)
        arrived(null)
      } else this.#push(part.task, part.end - part.start, arrived)
    })
  }

  /** Where a file with holes has data is asked for once, and not by each hand for its part. */
  #parts(task: FileTask, { size, isSparse }: ChangedFile): Part[] {
    const extents = isSparse ? this.#extents(task.path) : undefined
    return Array.from({ length: Math.ceil(size / partLength) }, (_, i) => {
      const part = { start: i * partLength, end: Math.min(size, (i + 1) * partLength) }
      const clipped = extents && clipExtents(extents, part.start, part.end)
      const isHole = clipped?.length === 0
      return { ...part, isHole, task: { ...task, part, ...(clipped && { extents: clipped }) }, result: null }
    })
  }

  #extents(path: string): Extent[] | undefined {
    const fd = openNoFollow(path)
    if (fd === undefined) return undefined
    try {
      return mappedExtents(this.#bridge, fd)
    } finally {
      closeSync(fd)
    }
  }

  #push(task: FileTask, bytes: Bytes, done: Done): void {
    this.#tasks.push(task)
    this.#done.push(done)
    this.#bytes += bytes
    if (this.#bytes >= batchBytes || this.#tasks.length >= batchFiles) this.flush()
  }

  #joined(parts: readonly Part[]): ReadContent | null {
    if (parts.some(({ isHole, result }) => !isHole && !result)) return null
    const builder = new ContentBuilder(this.#storeList, 1)
    for (const { result, start, end } of parts) {
      if (result) builder.addReferences(contentOf(result).references)
      else builder.addHole(end - start)
    }
    const profile = parts.find(({ result }) => result)?.result?.profile ?? profiles.large
    const changed = parts.some(({ result }) => result?.changed)
    return { content: builder.finish(), profile, changed, stat: undefined }
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
    const args = { table: this.#table.shared, progress: this.#progress.shared, tasks }
    this.#bridge.post('hand', { task: 'readFiles', args }, (answer) => {
      this.outstanding--
      const { files, packs } = answer as ReadFilesAnswer
      this.#index.add(packs)
      for (const [i, file] of files.entries()) done[i]?.(file)
    })
  }

  /** Waits for the last batch and makes durable what the hands have stored. */
  finish(): void {
    this.flush()
    this.#bridge.pumpUntil(() => this.outstanding === 0)
    flushHands(this.#bridge, this.#table, this.#index)
  }
}

function contentOf({ level, references }: FileResult): Content {
  return { level, references: Buffer.from(references.buffer, references.byteOffset, references.byteLength) }
}
