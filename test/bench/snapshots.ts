/**
 * Snapshot, clone and revert of 1 GiB in 30,000 files on btrfs and on XFS (loop images), by the admin API; beside them what a
 * shell would do: `btrfs subvolume snapshot`, `cp -a --reflink=always`.
 */

import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exec } from '../../src/system/exec.ts'
import { startHoldfast } from '../support/holdfast.ts'
import { openSandbox } from '../support/sandbox.ts'
import { median, ms, report, timed, times } from './measure.ts'

const files = 30_000
const bytes = 2 ** 30
const runs = 5

interface Bed {
  readonly name: string
  readonly mkfs: readonly string[]
  /** What a shell would do instead of a snapshot. */
  readonly plain: (from: string, to: string) => Promise<unknown>
  readonly removePlain: (path: string) => Promise<unknown>
}

const beds: readonly Bed[] = [
  {
    name: 'btrfs',
    mkfs: ['mkfs.btrfs', '-q'],
    plain: (from, to) => exec('btrfs', ['subvolume', 'snapshot', '-r', from, to]),
    removePlain: (path) => exec('btrfs', ['subvolume', 'delete', path]),
  },
  {
    name: 'xfs',
    mkfs: ['mkfs.xfs', '-q', '-m', 'reflink=1'],
    plain: (from, to) => exec('cp', ['-a', '--reflink=always', from, to], { timeoutMs: 0 }),
    removePlain: (path) => exec('rm', ['-rf', path], { timeoutMs: 0 }),
  },
]

function fill(directory: string): void {
  const content = randomBytes(Math.ceil(bytes / files))
  for (let number = 0; number < files; number++) {
    if (number % 300 === 0) mkdirSync(join(directory, `d${number / 300}`))
    writeFileSync(join(directory, `d${Math.floor(number / 300)}`, `f${number}`), content)
  }
}

/** One call of the admin API. @returns the answer's body */
function call(socketPath: string, method: string, path: string, body?: object): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { socketPath, method, path, headers: body ? { 'content-type': 'application/json' } : {} },
      (answer) => {
        let text = ''
        answer.on('data', (chunk) => {
          text += chunk
        })
        answer.on('end', () => ((answer.statusCode ?? 500) < 300 ? resolve(text) : reject(new Error(text))))
      },
    )
    sent.on('error', reject)
    sent.end(body && JSON.stringify(body))
  })
}

async function measure(bed: Bed, directory: string): Promise<string[][]> {
  const sandbox = await openSandbox()
  try {
    const holdfast = await startHoldfast(sandbox, ['--driver-opt', `vfs.path=${directory}/vfs`, '--log-level', 'warn'])
    const api = (method: string, path: string, body?: object) =>
      call(sandbox.reach('/run/holdfast/holdfast.sock'), method, path, body)
    const { mountpoint } = JSON.parse(
      await api('POST', '/v1/volumes', { name: 'data' }).then(() => api('POST', '/v1/volumes/data/mount')),
    ) as { mountpoint: string }
    fill(mountpoint)
    await exec('sync', ['-f', mountpoint], { timeoutMs: 0 })
    await api('POST', '/v1/volumes/data/umount')

    const samples: Record<string, number[]> = { snapshot: [], shell: [], clone: [], revert: [] }
    for (let run = 0; run < runs; run++) {
      const copy = `${directory}/plain-${run}`
      samples['snapshot']?.push(await timed(() => api('POST', '/v1/volumes/data/snapshots', { name: `s${run}` })))
      samples['shell']?.push(await timed(() => bed.plain(mountpoint, copy)))
      samples['clone']?.push(
        await timed(() => api('POST', '/v1/volumes', { name: `clone${run}`, fromSnapshot: `data@s${run}` })),
      )
      samples['revert']?.push(await timed(() => api('POST', `/v1/volumes/data/snapshots/s${run}/revert`)))
      await bed.removePlain(copy)
      await api('DELETE', `/v1/volumes/clone${run}?purge=true`)
      await api('DELETE', `/v1/volumes/data/snapshots/s${run}`)
    }
    await holdfast.stop()
    const shell = median(samples['shell'] as number[])
    return ['snapshot', 'clone', 'revert'].map((what) => {
      const ours = median(samples[what] as number[])
      return [bed.name, what, ms(ours), ms(shell), times(ours / shell)]
    })
  } finally {
    await sandbox.close()
  }
}

const scratch = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
const rows: string[][] = []
try {
  for (const bed of beds) {
    const [image, directory] = [join(scratch, `${bed.name}.img`), join(scratch, bed.name)]
    writeFileSync(image, '')
    truncateSync(image, 8 * bytes)
    mkdirSync(directory)
    await exec(bed.mkfs[0] as string, [...bed.mkfs.slice(1), image])
    await exec('mount', ['-o', 'loop', image, directory])
    try {
      rows.push(...(await measure(bed, directory)))
    } finally {
      await exec('umount', [directory])
      rmSync(image)
    }
  }
  report(
    'Snapshots of 1 GiB in 30,000 files: ms, medians',
    ['file system', 'call', 'holdfast', 'in a shell', 'ratio'],
    rows,
  )
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
