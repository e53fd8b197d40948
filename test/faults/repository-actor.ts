/** A process for repository-storm.test.ts to kill: `STORE ACTION ROOT NAME [GRACE_MS]`. */

import { openDirStore } from '../../src/objectstore/dir.ts'
import { openRepository } from '../../src/repository/repository.ts'
import { exec } from '../../src/system/exec.ts'

const [directory = '', action, root = '', name = '', graceMs = '0'] = process.argv.slice(2)
const store = await openDirStore(directory)
const repository = await openRepository({ store, tools: { exec }, passphrase: 'storm', graceMs: Number(graceMs) })

async function act(): Promise<void> {
  if (action === 'backup') {
    const about = {
      createdAt: new Date().toISOString(),
      host: 'h',
      volume: name,
      snapshot: null,
      labels: {},
      program: 'test',
    }
    const parent = (await repository.listBackups()).at(-1)?.id ?? null
    await repository.backupTree({ root, about, parent, compare: 'inode' })
  } else if (action === 'restore') await repository.restoreTree({ backup: name, target: root, path: '' })
  else if (action === 'prune') await repository.prune({ dryRun: false })
  else if (action === 'forget') {
    const backups = await repository.listBackups()
    await repository.deleteBackups(backups.slice(0, -2).map(({ id }) => id))
    await repository.prune({ dryRun: false })
  } else throw new Error(`unknown action ${action}`)
}

try {
  await act()
} catch (error) {
  const { code, message } = error as { code?: string; message: string }
  console.error(code, message)
  process.exitCode = 1
}
