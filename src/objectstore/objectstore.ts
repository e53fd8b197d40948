/**
 * The contract of an object store: flat keys to bytes. A repository is built on this and on nothing else.
 *
 * Objects are immutable: the same key is written twice only with the same bytes (or, for a caller's lease, by its
 * owner). A store need not be able to rename, append, lock, or tell who wrote what.
 *
 * What the world must provide, and every implementation here keeps or refuses to open:
 *  1. Durability: when `put` has returned, the object survives a power cut of the store; when `delete` has returned, it
 *     is gone or will be.
 *  2. Atomic visibility: under its key an object is absent or complete, for `get`, `stat` and `list`, also when the
 *     writer or the store dies in the middle. Of two writers of one key one wins whole.
 *  3. Read after write: once `put` has returned, every `get` and `stat` from any node gives the object.
 *  4. Truth: `get` gives the bytes that were put, or fails. A store that lies is caught where it is cheap (sizes on
 *     both ways, a checksum on the way in); the caller authenticates what it reads all the same.
 *
 * What must not be relied on:
 *  1. Listings that are up to date. They usually are, but NFS clients and some S3 servers let them lag by seconds to
 *     minutes, in both directions. Whether an object is there says `get` or `stat`; absence from a listing proves
 *     nothing.
 *  2. Clocks. `modifiedAt` is the store's own clock, which may be minutes off this node's, and restarts when an object
 *     is copied to another store. Compare it with other `modifiedAt`s of the same store, and with hours of margin.
 *  3. `ifAbsent`. It is a hint; `facts.ifAbsent` says what is known of it, and `probeStore` (probe.ts) tries it. Even
 *     where it is kept, an attempt that was thought lost may have won: on ALREADY_EXISTS read what is there.
 *  4. Order between objects. Two puts are ordered only when the second began after the first had returned.
 *
 * Every call that waits honours its `signal` and leaves by throwing its reason; what it was doing may still take
 * effect. Errors are `AppError`s whose messages name the store and the key and never hold a secret:
 * UNAVAILABLE, TIMEOUT, ABORTED when trying again may help; NO_SPACE, PERMISSION_DENIED, FAILED_PRECONDITION (no such
 * bucket or directory, read-only), NOT_SUPPORTED when only the user can help; CORRUPT for an object that is shorter
 * than it must be.
 */

import { AppError } from '../errors.ts'
import type { Bytes } from '../model.ts'

/** Half-open: the bytes from `start` up to, not including, `end`. */
export interface ByteRange {
  readonly start: Bytes
  readonly end: Bytes
}

export interface StoredObject {
  readonly key: string
  readonly size: Bytes
  /** The store's clock. */
  readonly modifiedAt: Date
}

/** What is known of a store. Facts may become known while it is used. */
export interface StoreFacts {
  readonly kind: 'dir' | 's3' | 'memory'
  /** Whether of many concurrent puts with `ifAbsent` exactly one succeeds. */
  readonly ifAbsent: 'kept' | 'ignored' | 'unknown'
  /** Largest object that one `put` can store. */
  readonly maxObjectSize: Bytes
  /** For people: endpoint, region, storage class, encryption; in the order to show them, no secrets. */
  readonly details: Readonly<Record<string, string>>
}

export interface WaitOptions {
  readonly signal?: AbortSignal | undefined
}

export interface PutOptions extends WaitOptions {
  /** Fail with ALREADY_EXISTS when the key is there; a hint that a store may not keep. */
  readonly ifAbsent?: boolean
}

export interface ListOptions extends WaitOptions {
  /** Only keys that sort behind this one; it need not exist. */
  readonly after?: string
}

export interface ObjectStore {
  /** As a user names it (`s3://BUCKET@REGION/PREFIX`, `file:///DIR`), normalized; no secret in it. */
  readonly url: string
  readonly facts: StoreFacts

  /**
   * Stores an object whole; an object of that key is replaced at once. The caller leaves `data` alone until it returns.
   * A crash in the middle leaves nothing visible.
   * @throws INVALID_ARGUMENT for a bad key, ALREADY_EXISTS (see `ifAbsent`), NO_SPACE
   */
  put(key: string, data: Uint8Array, options?: PutOptions): Promise<void>

  /**
   * The whole object, or exactly the bytes of `range`, in an ArrayBuffer of its own: the caller may keep or transfer
   * it.
   * @throws NOT_FOUND, CORRUPT when the object ends before `range.end`, INVALID_ARGUMENT for a range that is empty or
   * negative
   */
  get(key: string, range?: ByteRange, options?: WaitOptions): Promise<Uint8Array>

  /** Undefined when there is no such object. */
  stat(key: string, options?: WaitOptions): Promise<StoredObject | undefined>

  /**
   * All objects whose keys begin with `prefix` (any text of key characters, also part of a component; '' for all), in
   * ascending order of the keys' bytes. What is put or deleted meanwhile may or may not appear. Memory does not grow
   * with their number beyond one page or one directory.
   */
  list(prefix: string, options?: ListOptions): AsyncIterable<StoredObject>

  /**
   * Deletes objects; one that is gone counts as deleted. Not atomic: when it throws, any of them may be gone; call it
   * again.
   */
  delete(keys: readonly string[], options?: WaitOptions): Promise<void>

  /** Lets go of connections. Idempotent; calls in flight may fail. */
  close(): Promise<void>
}

const keyPattern = /^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,127}(\/[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,127})*$/
const maxKeyLength = 512

/** Whether a foreign file or object could be one of ours; listings pass over what could not. */
export function isKey(key: string): boolean {
  return key.length <= maxKeyLength && keyPattern.test(key)
}

/**
 * Checks a key: at most 512 characters; components of 1 to 128 letters, digits, '_', '-' and '.' (not in front), joined
 * by '/'. Such a key is safe as a relative path. Keys that differ only in case, or of which one is a directory of the
 * other (`a` and `a/b`), must not be used together: a directory cannot hold both.
 * @throws INVALID_ARGUMENT
 */
export function checkKey(key: string): void {
  if (isKey(key)) return
  throw new AppError('INVALID_ARGUMENT', `${JSON.stringify(key.slice(0, 140))} is not an object key`)
}

/** @throws INVALID_ARGUMENT when a key could not begin with `prefix` */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix)
}

/** @throws INVALID_ARGUMENT for a range that is empty, negative or not of integers */
export function checkRange(range: ByteRange): void {
  if (
    Number.isSafeInteger(range.start) &&
    Number.isSafeInteger(range.end) &&
    range.start >= 0 &&
    range.end > range.start
  )
    return
  throw new AppError('INVALID_ARGUMENT', `bytes ${range.start} to ${range.end} are not a range`)
}
