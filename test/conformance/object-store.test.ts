import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDirStore } from '../../src/objectstore/dir.ts'
import { openMemoryStore } from '../../src/objectstore/memory.ts'
import { openObjectStore } from '../../src/objectstore/open.ts'
import { openS3Store, type S3StoreOptions } from '../../src/objectstore/s3.ts'
import { writeKeyFiles } from '../support/s3-keys.ts'
import { type S3ServerOptions, startS3Server } from '../support/s3-server.ts'
import { objectStoreSuite, type StoreUnderTest } from './object-store.ts'

function scratch(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'holdfast-test-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

async function inMemory(): Promise<StoreUnderTest> {
  const store = openMemoryStore()
  return { store, reopen: async () => store, close: () => store.close() }
}

async function inDirectory(): Promise<StoreUnderTest> {
  const { path, remove } = scratch()
  const store = await openDirStore(join(path, 'new', 'store'), { create: true })
  const reopen = () => openDirStore(join(path, 'new', 'store'))
  return { store, reopen, close: async () => remove() }
}

async function wrapped(): Promise<StoreUnderTest> {
  const { path, remove } = scratch()
  const store = await openObjectStore(`vfs://${path}`, { parallel: 3, upload: 2 ** 30, download: 2 ** 30 })
  return { store, reopen: () => openObjectStore(`file://${path}`), close: async () => remove() }
}

function onServer(
  serverOptions: S3ServerOptions,
  options: Partial<S3StoreOptions> = {},
): () => Promise<StoreUnderTest> {
  return async () => {
    const server = await startS3Server(serverOptions)
    const { path, remove } = scratch()
    const keyFiles = writeKeyFiles(path, server)
    const open = () =>
      openS3Store({ bucket: server.bucket, prefix: 'a/prefix', endpoint: server.endpoint, keyFiles, ...options })
    const store = await open()
    const close = async () => {
      await store.close()
      await server.close()
      remove()
    }
    return { store, reopen: open, close }
  }
}

objectStoreSuite('memory', inMemory, { many: 2500 })
objectStoreSuite('dir', inDirectory, { many: 2500 })
objectStoreSuite('dir that retries, within limits', wrapped, { many: 200 })
objectStoreSuite('s3', onServer({}), { many: 1100 })
objectStoreSuite(
  's3 with checksums, small pages',
  onServer({ pageSize: 10 }, { checksums: 'when-supported', prefix: '' }),
  {
    many: 300,
  },
)
objectStoreSuite(
  's3 that knows no conditions, no DeleteObjects and no tokens',
  onServer({ conditions: 'refused', deletesMany: false, tokenless: true, pageSize: 50 }),
  { many: 300, ifAbsent: 'ignored' },
)
objectStoreSuite('s3 that does not heed conditions', onServer({ conditions: 'ignored' }), {
  many: 10,
  ifAbsent: 'ignored',
})
