import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { openObjectStore } from '../../src/objectstore/open.ts'
import { openS3Store, type S3StoreOptions } from '../../src/objectstore/s3.ts'
import { type Rgw, rgwMissing, startRgw } from '../support/rgw.ts'
import { writeKeyFiles } from '../support/s3-keys.ts'
import { liveOn } from '../unit/repository/support.ts'
import { objectStoreSuite, type StoreUnderTest } from './object-store.ts'

const reason = rgwMissing()

describe.skipIf(reason !== undefined)(`Ceph's RADOS Gateway${reason ? ` (${reason})` : ''}`, () => {
  let rgw: Rgw
  let directory: string

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'holdfast-test-'))
    rgw = await startRgw()
    const credentials = { accessKeyId: rgw.accessKey, secretAccessKey: rgw.secretKey }
    const client = new S3Client({ endpoint: rgw.endpoint, region: 'us-east-1', forcePathStyle: true, credentials })
    await client.send(new CreateBucketCommand({ Bucket: 'conformance' }))
    client.destroy()
  }, 180_000)

  afterAll(async () => {
    await rgw?.close()
    rmSync(directory, { recursive: true, force: true })
  })

  function options(prefix: string): S3StoreOptions {
    return { bucket: 'conformance', prefix, endpoint: rgw.endpoint, keyFiles: writeKeyFiles(directory, rgw) }
  }

  function on(prefix: string, more: Partial<S3StoreOptions> = {}): () => Promise<StoreUnderTest> {
    return async () => {
      const open = () => openS3Store({ ...options(prefix), ...more })
      const store = await open()
      return { store, reopen: open, close: () => store.close() }
    }
  }

  objectStoreSuite('as it comes', on('plain'), { many: 1100 })
  objectStoreSuite(
    'with checksums and single deletes',
    on('sums', { checksums: 'when-supported', deletes: 'single' }),
    {
      many: 20,
    },
  )

  it('carries a repository through a whole life', async () => {
    const keyFiles = writeKeyFiles(directory, rgw)
    const store = await openObjectStore('s3://conformance/repository', { endpoint: rgw.endpoint, keyFiles })
    onTestFinished(() => store.close())
    await liveOn(store)
  })

  it('tells a wrong secret, a wrong access key and a missing bucket apart', async () => {
    const failure = async (changes: { accessKey?: string; secretKey?: string }, bucket = 'conformance') => {
      const keyFiles = writeKeyFiles(directory, { ...rgw, ...changes })
      const store = await openObjectStore(`s3://${bucket}/x`, { endpoint: rgw.endpoint, keyFiles })
      const error = await store.get('some/key').catch((it: unknown) => it)
      await store.close()
      return error
    }
    expect(await failure({ secretKey: 'wrong' })).toMatchObject({
      code: 'PERMISSION_DENIED',
      message: expect.stringMatching(/secret key/),
    })
    expect(await failure({ accessKey: 'nobody' })).toMatchObject({
      code: 'PERMISSION_DENIED',
      message: expect.stringMatching(/access key/),
    })
    expect(await failure({}, 'no-such-bucket')).toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(/bucket/),
    })
    expect(await failure({})).toMatchObject({ code: 'NOT_FOUND' })
  })
})
