/** Passphrases: each wraps the repository's master key in an object of its own (FORMAT.md 3.1). Does no I/O. */

import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto'
import { promisify } from 'node:util'
import { AppError } from '../errors.ts'

/** What one passphrase is known by; nothing secret. */
export interface KeyInfo {
  readonly id: string
  readonly label: string
  readonly createdAt: string
}

/** A passphrase of an opened repository. */
export interface PassphraseInfo extends KeyInfo {
  /** Whether it is the one that opened the repository for this call. */
  readonly inUse: boolean
}

export interface KeyCost {
  readonly n: number
  readonly r: number
  readonly p: number
}

/** About 128 MiB and a third of a second. */
const defaultCost: KeyCost = { n: 2 ** 17, r: 8, p: 1 }

const maxMemory = 2 ** 30
const hexPattern = /^(?:[0-9a-f]{2})*$/

interface KeyObjectContent extends KeyCost {
  readonly salt: Buffer
  readonly nonce: Buffer
  readonly wrapped: Buffer
  readonly createdAt: string
  readonly label: string
}

const deriveWrapping = promisify<string, Buffer, number, object, Buffer>(scrypt)

function wrappingKey(passphrase: string, salt: Buffer, { n, r, p }: KeyCost): Promise<Buffer> {
  return deriveWrapping(passphrase.normalize('NFC'), salt, 32, { N: n, r, p, maxmem: maxMemory + 2 ** 26 })
}

function boundTo(repositoryId: string, id: string, createdAt: string, label: string): Buffer {
  return Buffer.from(`holdfast/1/key/${repositoryId}/${id}/${createdAt}/${label}`)
}

/** The key object's bytes for one more passphrase. @throws INVALID_ARGUMENT for an empty passphrase */
export async function wrapMasterKey(
  masterKey: Uint8Array,
  passphrase: string,
  about: KeyInfo & { readonly repositoryId: string; readonly cost?: KeyCost | undefined },
): Promise<Buffer> {
  if (passphrase === '') throw new AppError('INVALID_ARGUMENT', 'the passphrase is empty; give at least one character')
  const cost = about.cost ?? defaultCost
  const salt = randomBytes(32)
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', await wrappingKey(passphrase, salt, cost), nonce)
  cipher.setAAD(boundTo(about.repositoryId, about.id, about.createdAt, about.label))
  const wrapped = Buffer.concat([cipher.update(masterKey), cipher.final(), cipher.getAuthTag()])
  const hex = { salt: salt.toString('hex'), nonce: nonce.toString('hex'), wrapped: wrapped.toString('hex') }
  return Buffer.from(JSON.stringify({ kdf: 'scrypt', ...cost, ...hex, createdAt: about.createdAt, label: about.label }))
}

/** Whose key this is. @throws CORRUPT */
export function describeKey(id: string, object: Uint8Array): KeyInfo {
  const { label, createdAt } = parseKey(id, object)
  return { id, label, createdAt }
}

/** The master key, or undefined when the passphrase is not this key's. @throws CORRUPT */
export async function unwrapMasterKey(
  repositoryId: string,
  id: string,
  object: Uint8Array,
  passphrase: string,
): Promise<Buffer | undefined> {
  const key = parseKey(id, object)
  const decipher = createDecipheriv('aes-256-gcm', await wrappingKey(passphrase, key.salt, key), key.nonce)
  decipher.setAAD(boundTo(repositoryId, id, key.createdAt, key.label))
  decipher.setAuthTag(key.wrapped.subarray(32))
  const master = decipher.update(key.wrapped.subarray(0, 32))
  try {
    decipher.final()
  } catch {
    return undefined
  }
  return master
}

function parseKey(id: string, object: Uint8Array): KeyObjectContent {
  const fail = () =>
    new AppError('CORRUPT', `keys/${id} is no key of a repository; restore it or use another passphrase`)
  let value: Record<string, unknown>
  try {
    value = JSON.parse(Buffer.from(object).toString())
  } catch {
    throw fail()
  }
  if (value?.kdf !== 'scrypt') throw fail()
  const number = (field: string): number => {
    const n = value[field]
    if (typeof n !== 'number' || !Number.isInteger(n) || n < 1) throw fail()
    return n
  }
  const bytes = (field: string, length: number): Buffer => {
    const text = value[field]
    if (typeof text !== 'string' || text.length !== 2 * length || !hexPattern.test(text)) throw fail()
    return Buffer.from(text, 'hex')
  }
  const text = (field: string): string => {
    const given = value[field]
    if (typeof given !== 'string') throw fail()
    return given
  }
  const cost = { n: number('n'), r: number('r'), p: number('p') }
  const sane = cost.n >= 2 && Number.isInteger(Math.log2(cost.n)) && 128 * cost.n * cost.r <= maxMemory && cost.p <= 16
  if (!sane) throw fail()
  return {
    ...cost,
    salt: bytes('salt', 32),
    nonce: bytes('nonce', 12),
    wrapped: bytes('wrapped', 48),
    createdAt: text('createdAt'),
    label: text('label'),
  }
}
