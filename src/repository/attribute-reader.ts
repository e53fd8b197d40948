/**
 * Extended attributes and ACLs of many entries at once. Node cannot read them: Debian's `getfattr` does, one process for some thousand entries, each named
 * through its held directory so that no planted symlink is followed. Asked only for what is new or changed: setting an attribute sets ctime.
 */

import { closeSync } from 'node:fs'
import { type Attribute, encodeAttributes, parseDump } from './attributes.ts'
import type { Bridge } from './bridge.ts'
import { openPathOnly, type SourceDirectory } from './source-file.ts'

const batchLength = 5000
/** Directories that a batch may hold open. */
const mostDirectories = 500
/** getfattr quotes these, and its output is read as UTF-8: entries of other names go by a descriptor of their own. */
const plainName = /^[!-[\]-~ ]+$/

interface Wanted {
  readonly directory: SourceDirectory
  readonly name: string
  readonly done: (attributes: Buffer | undefined) => void
}

export class AttributeReader {
  readonly #bridge: Bridge
  #batch: Wanted[] = []
  readonly #directories = new Set<SourceDirectory>()
  /** Batches asked for and not answered. */
  outstanding = 0

  constructor(bridge: Bridge) {
    this.#bridge = bridge
  }

  /** `done` gets the encoded attributes, or undefined for none, after a later `flush` and pump. */
  add(directory: SourceDirectory, name: string, done: (attributes: Buffer | undefined) => void): void {
    directory.use()
    this.#batch.push({ directory, name, done })
    this.#directories.add(directory)
    if (this.#batch.length >= batchLength || this.#directories.size >= mostDirectories) this.flush()
  }

  flush(): void {
    const batch = this.#batch
    this.#batch = []
    this.#directories.clear()
    const plain = batch.filter(({ name }) => plainName.test(name))
    const odd = batch.filter(({ name }) => !plainName.test(name))
    if (plain.length > 0) this.#ask(plain, ['-h'], (wanted) => ({ path: procPath(wanted), close: () => undefined }))
    if (odd.length > 0) this.#ask(odd, [], descriptorPath)
  }

  #ask(batch: readonly Wanted[], options: readonly string[], open: (wanted: Wanted) => OpenedPath): void {
    const opened = batch.map(open)
    this.outstanding++
    const paths = opened.map(({ path }) => path)
    const args = [...options, '--dump', '--match=-', '--encoding=hex', '--absolute-names', '--', ...paths]
    this.#bridge.post('execOrNull', { program: 'getfattr', args, timeoutMs: 600_000 }, (output) => {
      this.outstanding--
      for (const { close } of opened) close()
      if (output === null) this.#askAgain(batch, options, open)
      else this.#answer(batch, paths, parseDump(output))
    })
  }

  /** One of the batch is gone, or has more than fits: smaller batches tell which. */
  #askAgain(batch: readonly Wanted[], options: readonly string[], open: (wanted: Wanted) => OpenedPath): void {
    const [first] = batch
    if (first && batch.length === 1) {
      this.#askAlone(first)
      return
    }
    const half = Math.ceil(batch.length / 2)
    this.#ask(batch.slice(0, half), options, open)
    this.#ask(batch.slice(half), options, open)
  }

  /** By a descriptor, so that whatever becomes of its name meanwhile does not matter; a failure is said. */
  #askAlone(wanted: Wanted): void {
    const opened = openedPath(wanted)
    if (opened === undefined) {
      this.#answer([wanted], [''], new Map())
      return
    }
    try {
      const args = ['--dump', '--match=-', '--encoding=hex', '--absolute-names', '--', opened.path]
      const output = this.#bridge.call('exec', { program: 'getfattr', args, timeoutMs: 600_000 })
      this.#answer([wanted], [opened.path], parseDump(output))
    } finally {
      opened.close()
    }
  }

  #answer(batch: readonly Wanted[], paths: readonly string[], found: Map<string, Attribute[]>): void {
    batch.forEach(({ directory, done }, i) => {
      directory.release()
      done(encodeAttributes(found.get(paths[i] ?? '') ?? []))
    })
  }
}

interface OpenedPath {
  readonly path: string
  close(): void
}

function procPath({ directory, name }: Wanted): string {
  return directory.path(name)
}

/** A name that is gone gives a path that getfattr cannot find either. */
function descriptorPath(wanted: Wanted): OpenedPath {
  return openedPath(wanted) ?? { path: '/proc/0/gone', close: () => undefined }
}

/** Undefined when the entry is gone. */
function openedPath({ directory, name }: Wanted): OpenedPath | undefined {
  const fd = openPathOnly(directory.path(name))
  return fd === undefined ? undefined : { path: `/proc/${process.pid}/fd/${fd}`, close: () => closeSync(fd) }
}
