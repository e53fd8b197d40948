/** The object `config`: what tells a repository from other files, and which encryption it has (FORMAT.md 3.1). */

import { createHmac, hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { Timestamp } from '../model.ts'
import { deriveKey } from './seal.ts'

export interface RepositoryConfig {
  readonly version: 1
  /** 16 random bytes in hex. */
  readonly id: string
  readonly encryption: 'none' | 'aes-256-gcm'
  readonly createdAt: Timestamp
}

const format = 'holdfast-repository'

/** A new repository's config. */
export function newConfig(encrypted: boolean): RepositoryConfig {
  return {
    version: 1,
    id: randomBytes(16).toString('hex'),
    encryption: encrypted ? 'aes-256-gcm' : 'none',
    createdAt: new Date().toISOString(),
  }
}

/** The object's bytes. */
export function encodeConfig(config: RepositoryConfig, masterKey: Uint8Array | null): Buffer {
  return Buffer.from(JSON.stringify({ format, ...config, mac: macOf(config, masterKey) }))
}

/**
 * Reads the object; what it says about encryption is not proven before `checkConfig`.
 * @throws FAILED_PRECONDITION for what is no repository, NOT_SUPPORTED for a newer version, CORRUPT
 */
export function parseConfig(object: Uint8Array, url: string): RepositoryConfig & { readonly mac: string } {
  let value: Record<string, unknown> | null = null
  if (object.length < 65_536) {
    try {
      value = JSON.parse(Buffer.from(object).toString())
    } catch {
      // Said below.
    }
  }
  if (value?.format !== format) {
    throw new AppError(
      'FAILED_PRECONDITION',
      `${url} holds a file 'config' that is not a Holdfast repository's; use another prefix`,
    )
  }
  const { version, id, encryption, createdAt, mac } = value
  if (typeof version === 'number' && version > 1) {
    throw new AppError(
      'NOT_SUPPORTED',
      `the repository ${url} has format version ${version}; this Holdfast reads version 1: update it`,
    )
  }
  const sound =
    version === 1 &&
    typeof id === 'string' &&
    /^[0-9a-f]{32}$/.test(id) &&
    (encryption === 'none' || encryption === 'aes-256-gcm') &&
    typeof createdAt === 'string' &&
    typeof mac === 'string' &&
    /^[0-9a-f]{64}$/.test(mac)
  if (!sound) throw corruptConfig(url)
  return { version, id, encryption, createdAt, mac }
}

/** @throws CORRUPT when the config is not the one that the key's owner wrote */
export function checkConfig(
  config: RepositoryConfig & { readonly mac: string },
  masterKey: Uint8Array | null,
  url: string,
): void {
  const expected = Buffer.from(macOf(config, masterKey), 'hex')
  if (!timingSafeEqual(expected, Buffer.from(config.mac, 'hex'))) throw corruptConfig(url)
}

function macOf(config: RepositoryConfig, masterKey: Uint8Array | null): string {
  const text = [format, config.version, config.id, config.encryption, config.createdAt].join('\n')
  if (masterKey === null) return hash('sha256', text, 'hex')
  const key = deriveKey({ repositoryId: config.id, masterKey }, 'config')
  return createHmac('sha256', key).update(text).digest('hex')
}

function corruptConfig(url: string): AppError {
  return new AppError(
    'CORRUPT',
    `the config of the repository ${url} is corrupt or was tampered with; restore that one small object`,
  )
}
