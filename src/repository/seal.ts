/**
 * Ids, seals and keys of a repository (FORMAT.md 3 and 4.1): the only file that encrypts, authenticates or names content.
 * One object serves plain and encrypted repositories, so that nothing above has to know which it is. Holds the master key: never log it.
 */

import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  hash,
  hkdfSync,
  type KeyObject,
} from 'node:crypto'
import { crc32 } from 'node:zlib'
import { AppError } from '../errors.ts'
import { release } from '../system/release.ts'
import { decompress } from './compression.ts'
import { zstd } from './zstd-frames.ts'

/** What a worker needs to make its own `Seal`. */
export interface SealSecrets {
  readonly repositoryId: string
  /** 32 bytes, or null for a plain repository. */
  readonly masterKey: Uint8Array | null
}

/** The letter of a sealed object's kind. */
export type BoxLetter = 'I' | 'M' | 'C' | 'D' | 'L'

const version = 1
const boxHead = 16
const tagLength = 16
const crcLength = 4
const maxBox = 256 * 2 ** 20
const zeroNonce = Buffer.alloc(12)

export class Seal {
  readonly encrypted: boolean
  /** Bytes that a chunk's or a directory's stored form is longer for the seal. */
  readonly chunkOverhead: number
  readonly directoryOverhead: number
  readonly #secrets: SealSecrets
  readonly #mac: ((message: Buffer) => Buffer) | undefined

  constructor(secrets: SealSecrets) {
    this.#secrets = secrets
    this.encrypted = secrets.masterKey !== null
    this.chunkOverhead = this.encrypted ? tagLength : crcLength
    this.directoryOverhead = this.encrypted ? tagLength : 32
    this.#mac = this.encrypted ? hmacSha256(this.#derive('chunk-id')) : undefined
  }

  #derive(what: string): Buffer {
    return deriveKey(this.#secrets, what)
  }

  /** The id of a chunk of this content, 32 bytes. */
  chunkId(content: Uint8Array): Buffer {
    const digest = hash('sha256', content, 'buffer')
    return this.#mac ? this.#mac(digest) : digest
  }

  /** The chunker's table of 256 little-endian u32 (FORMAT.md 5.2). */
  gearTable(): Buffer {
    const key = this.encrypted ? this.#derive('gear') : hash('sha256', 'holdfast/1/gear', 'buffer')
    return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(1024))
  }

  /** Seals a whole object for its full name (FORMAT.md 3.2). Use a name for one content only. */
  sealObject(letter: BoxLetter, name: string, content: Uint8Array): Buffer {
    const head = Buffer.alloc(boxHead)
    head.write(`HF${letter}`, 'latin1')
    head.writeUInt8(version, 3)
    head.writeUInt32LE(this.encrypted ? 1 : 0, 4)
    head.writeUInt32LE(content.length, 8)
    const body = zstd(content)
    if (!this.encrypted) return Buffer.concat([head, body, checksum(name, head, body)])
    return Buffer.concat([head, ...encrypt(this.#objectKey(name), zeroNonce, head, body)])
  }

  /** Opens what `sealObject` made. @throws CORRUPT when a byte or the name is another, or it is from a newer version */
  openObject(letter: BoxLetter, name: string, object: Uint8Array): Uint8Array {
    const bytes = Buffer.from(object.buffer, object.byteOffset, object.byteLength)
    if (bytes.length < boxHead + tagLength || bytes.toString('latin1', 0, 3) !== `HF${letter}`) throw corrupt(name)
    const head = bytes.subarray(0, boxHead)
    const length = head.readUInt32LE(8)
    if (head.readUInt8(3) !== version || length > maxBox) throw corrupt(name)
    if (head.readUInt32LE(4) !== (this.encrypted ? 1 : 0)) throw corrupt(name)
    const body = this.encrypted
      ? decrypt(this.#objectKey(name), zeroNonce, head, bytes.subarray(boxHead), name)
      : checked(name, bytes.subarray(boxHead), (rest) => checksum(name, head, rest))
    const content = decompress(1, body, length, name)
    if (this.encrypted) release(body)
    return content
  }

  /** The seal for the inside of one pack. */
  forPack(name: string): PackSeal {
    return new PackSeal(name, this.encrypted ? this.#objectKey(name) : undefined)
  }

  #objectKey(name: string): KeyObject {
    return createSecretKey(this.#derive(`object/${name}`))
  }
}

/** Seals chunks and the directory of one pack. */
export class PackSeal {
  readonly #name: string
  readonly #key: KeyObject | undefined

  constructor(name: string, key: KeyObject | undefined) {
    this.#name = name
    this.#key = key
  }

  /** @param entry the chunk's directory entry @returns parts to be stored one after the other */
  sealChunk(offset: number, entry: Buffer, bytes: Uint8Array): readonly Uint8Array[] {
    if (!this.#key) return [bytes, crcOf(bytes)]
    return encrypt(this.#key, nonce(0, offset), chunkData(entry), bytes)
  }

  /** @throws CORRUPT. A plain chunk's content has still to be compared with its id. */
  openChunk(offset: number, entry: Buffer, stored: Buffer): Buffer {
    if (!this.#key) return checkedChunk(this.#name, stored)
    return decrypt(this.#key, nonce(0, offset), chunkData(entry), stored, `a chunk of ${this.#name}`)
  }

  /** @param frame header and footer of the pack */
  sealDirectory(offset: number, frame: Buffer, directory: Uint8Array): Buffer {
    if (!this.#key) return Buffer.concat([directory, directorySum(this.#name, frame, directory)])
    return Buffer.concat(encrypt(this.#key, nonce(1, offset), frame, directory))
  }

  openDirectory(offset: number, frame: Buffer, stored: Buffer): Buffer {
    if (this.#key) return decrypt(this.#key, nonce(1, offset), frame, stored, this.#name)
    return checked(this.#name, stored, (rest) => directorySum(this.#name, frame, rest))
  }
}

/** `derive(what)` of FORMAT.md 3.1. @throws INTERNAL for a plain repository, which has no key */
export function deriveKey(secrets: SealSecrets, what: string): Buffer {
  if (!secrets.masterKey) throw new AppError('INTERNAL', 'a repository without encryption has no keys')
  const salt = Buffer.from(secrets.repositoryId, 'hex')
  return Buffer.from(hkdfSync('sha256', secrets.masterKey, salt, `holdfast/1/${what}`, 32))
}

/**
 * HMAC-SHA-256 (RFC 2104) of messages of 32 bytes, by two calls of `hash`: Node's own Hmac takes six times as long to set up as a chunk's
 * id takes to compute. @param key 32 bytes
 */
function hmacSha256(key: Buffer): (message: Buffer) => Buffer {
  const block = Buffer.concat([key, Buffer.alloc(64 - key.length)])
  const inner = Buffer.concat([block.map((byte) => byte ^ 0x36), Buffer.alloc(32)])
  const outer = Buffer.concat([block.map((byte) => byte ^ 0x5c), Buffer.alloc(32)])
  return (message) => {
    inner.set(message, 64)
    outer.set(hash('sha256', inner, 'buffer'), 64)
    return hash('sha256', outer, 'buffer')
  }
}

function encrypt(key: KeyObject, iv: Buffer, data: Buffer, plain: Uint8Array): readonly [Buffer, Buffer] {
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  cipher.setAAD(data)
  const text = cipher.update(plain)
  cipher.final()
  return [text, cipher.getAuthTag()]
}

function decrypt(key: KeyObject, iv: Buffer, data: Buffer, sealed: Buffer, what: string): Buffer {
  if (sealed.length < tagLength) throw corrupt(what)
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: tagLength })
  decipher.setAAD(data)
  decipher.setAuthTag(sealed.subarray(sealed.length - tagLength))
  const plain = decipher.update(sealed.subarray(0, sealed.length - tagLength))
  try {
    decipher.final()
  } catch {
    throw corrupt(what)
  }
  return plain
}

/** The id proves a plain chunk's content; this finds the altered bits that decompression does not mind. */
function crcOf(bytes: Uint8Array): Buffer {
  const crc = Buffer.alloc(crcLength)
  crc.writeUInt32LE(crc32(bytes))
  return crc
}

function checkedChunk(name: string, stored: Buffer): Buffer {
  const bytes = stored.subarray(0, Math.max(0, stored.length - crcLength))
  if (!crcOf(bytes).equals(stored.subarray(bytes.length))) throw corrupt(`a chunk of ${name}`)
  return bytes
}

function nonce(domain: number, offset: number): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt8(domain, 0)
  bytes.writeUInt32LE(offset, 4)
  return bytes
}

/** Id, length, method and kind; not the stored length, which the ciphertext's own length is. */
function chunkData(entry: Buffer): Buffer {
  return Buffer.concat([entry.subarray(0, 32), entry.subarray(36, 44)])
}

function checksum(name: string, head: Uint8Array, body: Uint8Array): Buffer {
  return createHash('sha256').update(name).update(head).update(body).digest()
}

function directorySum(name: string, frame: Buffer, directory: Uint8Array): Buffer {
  const sum = createHash('sha256').update(name).update(frame.subarray(0, 16))
  return sum.update(directory).update(frame.subarray(16)).digest()
}

function checked(name: string, stored: Buffer, sum: (rest: Buffer) => Buffer): Buffer {
  const rest = stored.subarray(0, Math.max(0, stored.length - 32))
  if (!sum(rest).equals(stored.subarray(rest.length))) throw corrupt(name)
  return rest
}

function corrupt(name: string): AppError {
  return new AppError(
    'CORRUPT',
    `${name} is corrupt: its content does not match its seal; run verify to learn what it touches`,
  )
}
