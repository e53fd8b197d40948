/**
 * The place in which a restore builds a tree before any of it appears under its name: `.holdfast-restore-BACKUP` in the target, for root only. It
 * also keeps how far an interrupted restore had come. A restore of one path has a place of its own, so that two never mix.
 */

import { createHash } from 'node:crypto'
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
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { AppError, errno, fromErrno } from '../errors.ts'

/** All records before number `record` are restored, and of that one all parts before `part`. */
export interface Checkpoint {
  readonly record: number
  readonly part: number
}

/** What mkfs leaves in a new file system. */
const lostAndFound = 'lost+found'

export class RestoreArea {
  readonly #target: number
  readonly #name: string
  #fd: number | undefined

  /**
   * Opens `target`, an existing directory; changes nothing in it yet.
   * @param path of what is restored, empty for all @throws NOT_FOUND
   */
  constructor(target: string, backup: string, path: Buffer) {
    const suffix = path.length === 0 ? '' : `-${createHash('sha256').update(path).digest('hex').slice(0, 16)}`
    this.#name = `.holdfast-restore-${backup}${suffix}`
    this.#target = openDirectory(target)
  }

  /** Something in the target that no restore in progress has put there; an empty lost+found is nothing. */
  get occupant(): string | undefined {
    if (this.isPublishing) return undefined
    return readdirSync(this.target).find((name) => !this.isOurs(name))
  }

  /** Whether an entry of the target is the area itself, or an empty lost+found. */
  isOurs(name: string): boolean {
    return name === this.#name || (name === lostAndFound && isEmptyDirectory(`${this.target}/${name}`))
  }

  /** Makes the area, or takes over the one that is there. @throws FAILED_PRECONDITION when it is somebody else's */
  begin(): void {
    makeDirectory(`${this.target}/${this.#name}`)
    this.#fd = openDirectory(`${this.target}/${this.#name}`)
    const { uid, mode } = fstatSync(this.#fd)
    if (uid !== process.getuid?.() || (mode & 0o077) !== 0) {
      throw new AppError('FAILED_PRECONDITION', `${this.#name} in the target was not made by Holdfast; remove it`)
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
      const { record, part } = JSON.parse(readFileSync(`${this.path}/checkpoint`, 'utf8'))
      if (Number.isSafeInteger(record) && Number.isSafeInteger(part)) return { record, part }
    } catch (error) {
      if (errno(error) !== 'ENOENT' && !(error instanceof SyntaxError)) throw error
    }
    return { record: 0, part: 0 }
  }

  /** Call it when everything before has been synced. */
  writeCheckpoint(checkpoint: Checkpoint): void {
    writeFileSync(`${this.path}/checkpoint.new`, JSON.stringify(checkpoint))
    renameSync(`${this.path}/checkpoint.new`, `${this.path}/checkpoint`)
  }

  /** Moves what has been built to its names in the target. Interrupted, it goes on when called again. */
  publish(): void {
    writeFileSync(`${this.path}/moving`, '')
    for (const name of readdirSync(this.tree, { encoding: 'latin1' })) {
      if (name === lostAndFound && this.isOurs(name)) rmdirSync(`${this.target}/${name}`)
      renameSync(bytes(`${this.tree}/${name}`), bytes(`${this.target}/${name}`))
    }
  }

  /** Removes the area; its end is the last change to the target's own list of names. */
  remove(): void {
    this.#closeArea()
    rmSync(`${this.target}/${this.#name}`, { recursive: true, force: true })
  }

  close(): void {
    this.#closeArea()
    closeSync(this.#target)
  }

  #closeArea(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }
}

function isEmptyDirectory(path: string): boolean {
  return (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false) && readdirSync(path).length === 0
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
