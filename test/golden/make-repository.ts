/**
 * Makes test/golden/repository-v1-{plain,encrypted}: repositories of format version 1 as this version writes them. Not run by any
 * test: what it once made is kept, so that later versions prove that they still read it. Run as root: `node test/golden/make-repository.ts`.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openDirStore } from '../../src/objectstore/dir.ts'
import { initRepository } from '../../src/repository/repository.ts'
import { exec } from '../../src/system/exec.ts'
import { goldenPassphrase, makeGoldenImage, makeGoldenTree } from './tree.ts'

for (const kind of ['plain', 'encrypted'] as const) {
  const directory = fileURLToPath(new URL(`./repository-v1-${kind}`, import.meta.url))
  const store = await openDirStore(directory, { create: true })
  const passphrase = kind === 'encrypted' ? goldenPassphrase : undefined
  const repository = await initRepository({ store, tools: { exec }, passphrase, cost: { n: 1024, r: 8, p: 1 } })
  const root = mkdtempSync(join(tmpdir(), 'holdfast-golden-'))
  try {
    makeGoldenTree(root)
    const about = {
      createdAt: '2026-11-23T04:00:00.000Z',
      host: 'golden',
      snapshot: 's1',
      labels: { made: 'once' },
      program: 'holdfast 0.1.0',
    }
    const tree = { root, about: { ...about, volume: 'tree' } }
    const first = await repository.backupTree({ ...tree, parent: null })
    await repository.backupTree({ ...tree, parent: first.id })
    const device = join(root, 'image')
    const size = makeGoldenImage(device)
    await repository.backupBlock({
      device,
      size,
      allocated: null,
      parent: null,
      changed: null,
      about: { ...about, volume: 'block' },
    })
  } finally {
    rmSync(root, { recursive: true })
  }
}
