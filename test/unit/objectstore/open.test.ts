import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { openObjectStore } from '../../../src/objectstore/open.ts'
import { parseStoreUrl } from '../../../src/objectstore/store-url.ts'

describe('the URL of a store', () => {
  it('names a bucket, its region and a prefix', () => {
    expect(parseStoreUrl('s3://bucket')).toEqual({ kind: 's3', bucket: 'bucket', prefix: '' })
    expect(parseStoreUrl('s3://bucket/')).toEqual({ kind: 's3', bucket: 'bucket', prefix: '' })
    expect(parseStoreUrl('s3://my.bucket@eu-central-1/a/b/')).toEqual({
      kind: 's3',
      bucket: 'my.bucket',
      region: 'eu-central-1',
      prefix: 'a/b',
    })
  })

  it('names a directory', () => {
    expect(parseStoreUrl('file:///var/backups')).toEqual({ kind: 'dir', path: '/var/backups' })
    expect(parseStoreUrl('vfs:///var/backups')).toEqual({ kind: 'dir', path: '/var/backups' })
    expect(parseStoreUrl('file:///with%20space')).toEqual({ kind: 'dir', path: '/with space' })
  })

  it('is refused when it is none', () => {
    const bad = [
      '',
      'x',
      '/dir',
      's3:',
      's3://',
      's3:///p',
      's3://ab',
      's3://b@',
      's3://b@R/',
      's3://bucket/a/../b',
      's3://bucket/a?b',
    ]
    for (const url of [
      ...bad,
      'file://host/dir',
      'file://dir',
      'file:///a?backup=1',
      'file:///a%2fb',
      'http://h/b',
      's3://-b-b/',
    ]) {
      expect(() => parseStoreUrl(url), url).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    }
  })

  it('is not repeated when it holds keys', () => {
    for (const url of ['s3://AKIA:topsecret@bucket/p', 's3://AKIA/x:topsecret@bucket@eu-1/p', 'topsecret@bucket']) {
      const error = thrownBy(() => parseStoreUrl(url))
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' })
      expect(inspect(error)).not.toContain('topsecret')
    }
  })
})

describe('openObjectStore', () => {
  it('refuses endpoints that are none or hold keys, and does not repeat those', async () => {
    for (const endpoint of [
      'host:9000',
      'ftp://h',
      'https://user:topsecret@h',
      'https://topsecret@h',
      'https://h?topsecret',
    ]) {
      const error = await openObjectStore('s3://bucket/p', { endpoint }).catch((it: unknown) => it)
      expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' })
      expect(inspect(error)).not.toContain('topsecret')
    }
  })

  it('repeats an endpoint that is none', async () => {
    const message = expect.stringContaining("'minio:9000' is not an endpoint")
    await expect(openObjectStore('s3://bucket/p', { endpoint: 'minio:9000' })).rejects.toMatchObject({ message })
  })

  it('refuses two regions and archive classes', async () => {
    const invalid = { code: 'INVALID_ARGUMENT' }
    await expect(openObjectStore('s3://bucket@eu-1/p', { region: 'us-1' })).rejects.toMatchObject(invalid)
    await expect(openObjectStore('s3://bucket/p', { storageClass: 'DEEP_ARCHIVE' })).rejects.toMatchObject(invalid)
  })

  it('says what a store is', async () => {
    const store = await openObjectStore('s3://bucket@eu-1/p/', { encryption: 'kms', kmsKeyId: 'k1', storageClass: 'X' })
    expect(store.url).toBe('s3://bucket@eu-1/p')
    expect(store.facts).toMatchObject({
      kind: 's3',
      ifAbsent: 'unknown',
      details: { region: 'eu-1', storageClass: 'X', encryption: 'kms k1' },
    })
    await store.close()
  })

  it('does not make a directory unless it is told to', async () => {
    await expect(openObjectStore('file:///no/such/directory')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  })
})

function thrownBy(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  return undefined
}
