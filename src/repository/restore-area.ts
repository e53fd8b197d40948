/**
 * The place in which a restore builds a tree before any of it appears under its name: `.holdfast-restore-BACKUP` in the target, for root only. It
 * also keeps how far an interrupted restore had come.
 */

import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { AppError, errno, fromErrno } from '../errors.ts'

/** All records before number `record` are restored, and of that one all parts before `part`. */
export interface Checkpoint {
  readonly record: number
  readonly part: number
}

export class RestoreArea {
  readonly #target: number
  readonly #fd: number
  readonly #name: string
  /** What is being restored: a checkpoint of something else is of no use. */
  readonly #what: string

  /**
   * Opens the area in `target`, an existing directory that is empty but for it.
   * @throws NOT_FOUND, FAILED_PRECONDITION when there is anything else in it
   */
  constructor(target: string, backup: string, what: string) {
    this.#what = what
    this.#name = `.holdfast-restore-${backup}`
    this.#target = openDirectory(target)
    const others = readdirSync(this.target).filter((name) => name !== this.#name && name !== 'lost+found')
    if (others.length > 0 && !this.isPublishing) {
      throw new AppError(
        'FAILED_PRECONDITION',
        `${target} is not empty (${others[0]}); restore into an empty directory`,
      )
    }
    makeDirectory(`${this.target}/${this.#name}`)
    this.#fd = openDirectory(`${this.target}/${this.#name}`)
    const { uid, mode } = fstatSync(this.#fd)
    if (uid !== process.getuid?.() || (mode & 0o077) !== 0) {
      throw new AppError('FAILED_PRECONDITION', `${target}/${this.#name} was not made by Holdfast; remove it`)
    }
    for (const part of ['tree', 'data', 'skeleton']) makeDirectory(`${this.path}/${part}`)
  }

  /** Whether the move into the target has begun: then the target is not empty, and that is as it should be. */
  get isPublishing(): boolean {
    return lstatSync(`${this.target}/${this.#name}/moving`, { throwIfNoEntry: false })?.isFile() ?? false
  }

  /** For system calls of this process and its children: symlinks cannot lead it elsewhere. */
  get target(): string {
    return `/proc/${process.pid}/fd/${this.#target}`
  }

  get path(): string {
    return `/proc/${process.pid}/fd/${this.#fd}`
  }

  get tree(): string {
    return `${this.path}/tree`
  }

  /** How far the same restore had come before. */
  readCheckpoint(): Checkpoint {
    try {
      const { what, record, part } = JSON.parse(readFileSync(`${this.path}/checkpoint`, 'utf8'))
      if (what === this.#what && Number.isSafeInteger(record) && Number.isSafeInteger(part)) return { record, part }
    } catch (error) {
      if (errno(error) !== 'ENOENT' && !(error instanceof SyntaxError)) throw error
    }
    return { record: 0, part: 0 }
  }

  /** Call it when everything before has been synced. */
  writeCheckpoint(checkpoint: Checkpoint): void {
    writeFileSync(`${this.path}/checkpoint.new`, JSON.stringify({ what: this.#what, ...checkpoint }))
    renameSync(`${this.path}/checkpoint.new`, `${this.path}/checkpoint`)
  }

  /** Moves what has been built to its names in the target. Interrupted, it goes on when called again. */
  publish(): void {
    writeFileSync(`${this.path}/moving`, '')
    for (const name of readdirSync(this.tree, { encoding: 'latin1' })) {
      renameSync(bytes(`${this.tree}/${name}`), bytes(`${this.target}/${name}`))
    }
  }

  /** Removes the area. */
  remove(): void {
    closeSync(this.#fd)
    rmSync(`${this.target}/${this.#name}`, { recursive: true, force: true })
  }

  close(): void {
    closeSync(this.#target)
  }
}

function bytes(path: string): Buffer {
  return Buffer.from(path, 'latin1')
}

function openDirectory(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  } catch (error) {
    throw fromErrno(error, `opening the directory ${path}`)
  }
}

/** Makes a directory for root only; one that is there stays, anything else there is an error. */
export function makeDirectory(path: string | Buffer): void {
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    const isThere = errno(error) === 'EEXIST' && lstatSync(path).isDirectory()
    if (!isThere) throw fromErrno(error, `making the directory ${path}`)
  }
}
