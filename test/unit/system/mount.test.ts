import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { locate, mountAt, parseMounts, readMounts, usesOf } from '../../../src/system/mount.ts'

const table = parseMounts(
  Buffer.from(
    [
      '20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro',
      '30 20 8:2 / /srv rw - xfs /dev/sdb rw,prjquota',
      '31 30 0:40 /@vol /srv/sub rw - btrfs /dev/sdc rw,subvol=/@vol',
      '40 20 7:0 / /mnt/with\\040space\\011and\\134more ro,nosuid master:2 propagate_from:3 - ext4 /dev/loop0 ro',
      '50 20 0:50 / /over rw - tmpfs none rw',
      '51 50 0:51 / /over/hidden rw - tmpfs none rw',
      '52 50 0:52 / /over rw - tmpfs top rw',
      '60 20 0:60 / /caf\\303\\251 rw - tmpfs none rw',
      '61 20 0:61 / /mnt/vol rw - tmpfs none rw',
      '',
    ].join('\n'),
  ),
)

describe('a mountinfo table', () => {
  test('is read with its escapes, options and optional fields', () => {
    expect(table).toHaveLength(9)
    expect(table[3]).toEqual({
      id: 40,
      parentId: 20,
      device: '7:0',
      root: '/',
      mountpoint: '/mnt/with space\tand\\more',
      fsType: 'ext4',
      source: '/dev/loop0',
      options: ['ro', 'nosuid'],
      superOptions: ['ro'],
    })
    expect(table[7]?.mountpoint).toBe('/café')
  })

  test('tells which directory of an NFS export is mounted, which the kernel shows in the source', () => {
    const lines = [
      '47 27 0:30 / /mnt/share rw - nfs4 [fe80::1]:/export rw,vers=4.2',
      '48 27 0:30 / /mnt/volume rw - nfs4 [fe80::1]:/export/volumes/v/data rw,vers=4.2',
      '49 27 0:31 / /mnt/all rw - nfs 10.0.0.1:/ rw,vers=3',
    ]
    const entries = parseMounts(Buffer.from(lines.join('\n')))
    expect(entries.map(({ root }) => root)).toEqual(['/export', '/export/volumes/v/data', '/'])
    expect(locate('/mnt/share/volumes/v/data', entries)).toEqual(locate('/mnt/volume', entries))
  })

  test('of this process is readable', () => {
    expect(readMounts().find((entry) => entry.mountpoint === '/proc')?.fsType).toBe('proc')
  })

  test('tells what is mounted exactly at a path', () => {
    expect(mountAt('/srv', table)?.device).toBe('8:2')
    expect(mountAt('/mnt/vol', table)?.device).toBe('0:61')
    expect(mountAt('/mnt/vo', table)).toBeUndefined()
    expect(mountAt('/mnt/vol1', table)).toBeUndefined()
    expect(mountAt('/mnt/vol/below', table)).toBeUndefined()
  })

  test('tells the topmost of stacked mounts, and passes by hidden ones', () => {
    expect(mountAt('/over', table)?.source).toBe('top')
    expect(mountAt('/over/hidden', table)).toBeUndefined()
    expect(locate('/over/hidden', table)).toEqual({ device: '0:52', root: '/hidden' })
  })

  test.each([
    ['/', { device: '8:1', root: '/' }],
    ['/etc', { device: '8:1', root: '/etc' }],
    ['/srv', { device: '8:2', root: '/' }],
    ['/srv/a/b', { device: '8:2', root: '/a/b' }],
    ['/srv/sub', { device: '0:40', root: '/@vol' }],
    ['/srv/sub/x', { device: '0:40', root: '/@vol/x' }],
    ['/srvx', { device: '8:1', root: '/srvx' }],
  ])('locates %s', (path, location) => {
    expect(locate(path, table)).toEqual(location)
  })
})

describe('the uses of a directory', () => {
  test('are none when nothing shows it', async () => {
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'holdfast-uses-')))
    expect(await usesOf(directory, [])).toEqual([])
    await rm(directory, { recursive: true })
  })

  test('of a directory that is gone are not found', async () => {
    await expect(usesOf('/nowhere/at/all', [])).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test.runIf(process.getuid?.() === 0)(
    'are found in another mount namespace, also of a part of it (as root)',
    async () => {
      const directory = await realpath(await mkdtemp(join(tmpdir(), 'holdfast-uses-')))
      const script = 'mkdir -p "$0/part" "$0-at" && mount --bind "$0/part" "$0-at" && echo ready && cat'
      const child = spawn('unshare', ['--mount', 'sh', '-c', script, directory], { stdio: ['pipe', 'pipe', 'inherit'] })
      try {
        await once(child.stdout, 'data')
        const at = `${directory}-at`
        expect(await usesOf(directory, [])).toEqual([{ pid: expect.any(Number), mountpoint: at }])
        expect(await usesOf(join(directory, 'part'), [])).toHaveLength(1)
        expect(await usesOf(at, [])).toEqual([])
      } finally {
        const ended = once(child, 'exit')
        child.stdin.end()
        await ended
        await rm(directory, { recursive: true, force: true })
        await rm(`${directory}-at`, { recursive: true, force: true })
      }
    },
  )
})
