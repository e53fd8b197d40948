/** The numbers for Prometheus: what is counted, and that no driver holds them up. */

import { expect, test } from 'vitest'
import { putLastBackup } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import { Node } from '../../../../src/services/node/node.ts'
import { Schedules } from '../../../../src/services/schedules/schedules.ts'
import { DockerApi } from '../../../../src/system/docker.ts'
import { coreWithTarget } from '../../../support/backups.ts'
import { openCore, type TestCore } from '../../../support/core.ts'

const nodeOf = ({ core }: TestCore) => new Node(core, new DockerApi(core.config.dockerSocket))

/** The lines with numbers, without the moment of the start. */
async function numbers(t: TestCore): Promise<string[]> {
  const text = await nodeOf(t).metrics()
  return text.split('\n').filter((line) => /^[^#]/.test(line) && !line.startsWith('holdfast_start_time_seconds '))
}

test('volumes, operations, schedules, backups and drivers', async () => {
  await using t = await coreWithTarget()
  await t.volumes.create({ name: 'old' })
  await t.snapshots.create('old', { name: 's1' })
  await t.volumes.remove('old')
  await t.mounts.mount('db', 'c1')
  const last = { volumeId: t.core.catalog.volume('db')?.id ?? '', backupId: 'b', snapshotId: null }
  const { repositoryId = '' } = t.core.catalog.target('t') ?? {}
  const createdAt = '2026-11-23T00:00:00.000Z'
  await t.core.catalog.write(
    putLastBackup({ ...last, repositoryId, url: 'file:///t?backup=b', createdAt }),
    putLastBackup({ ...last, repositoryId: 'other', url: 'file:///u?backup=b', createdAt }),
  )
  const schedules = new Schedules({ core: t.core, snapshots: t.snapshots, backups: t.backups })
  await schedules.create({ volume: 'db', name: 'nightly', cron: '@daily', snapshot: true })
  t.driver.fail('snapshots.create', new AppError('NO_SPACE', 'full'))
  await expect(schedules.run('nightly')).rejects.toThrow('full')
  const gate = t.driver.block('createVolume')
  const creating = t.volumes.create({ name: 'new' })
  await gate.reached
  expect(await numbers(t)).toEqual([
    'holdfast_volumes{driver="fake"} 1',
    'holdfast_volumes_mounted 1',
    'holdfast_snapshots 1',
    'holdfast_trash_volumes 1',
    'holdfast_operations_running{kind="volume.create"} 1',
    'holdfast_operations_total{kind="volume.create",state="done"} 2',
    'holdfast_operations_total{kind="snapshot.create",state="done"} 1',
    'holdfast_operations_total{kind="volume.discard",state="done"} 1',
    'holdfast_operations_total{kind="snapshot.create",state="failed"} 1',
    'holdfast_operations_total{kind="schedule.run",state="failed"} 1',
    'holdfast_schedule_active{schedule="nightly",volume="db"} 1',
    'holdfast_schedule_failures{schedule="nightly",volume="db"} 1',
    'holdfast_last_backup_timestamp_seconds{volume="db",target="t"} 1795392000',
    'holdfast_last_backup_timestamp_seconds{volume="db",target="file:///u"} 1795392000',
    'holdfast_driver_up{driver="fake"} 1',
    'holdfast_driver_data_used_ratio{driver="fake"} 0.6',
    'holdfast_driver_storage_size_bytes{driver="fake"} 100',
    'holdfast_driver_storage_free_bytes{driver="fake"} 40',
  ])
  gate.open()
  await creating
})

test('a driver that hangs is down within two seconds, and asked once; info says so, too', async () => {
  await using t = await openCore()
  const gate = t.driver.block('describe')
  const node = nodeOf(t)
  const begun = performance.now()
  const texts = await Promise.all([node.metrics(), node.metrics()])
  expect(performance.now() - begun).toBeLessThan(4_000)
  for (const text of texts) {
    expect(text).toMatch(/^holdfast_driver_up\{driver="fake"\} 0$/m)
    expect(text).not.toContain('holdfast_driver_storage')
  }
  expect(t.driver.calls.filter((call) => call === 'describe fake')).toHaveLength(1)
  gate.open()
  expect((await node.info()).drivers[0]).toMatchObject({ facts: { kind: 'memory' }, storage: { size: 100, free: 40 } })
  t.driver.fail('describe', new AppError('UNAVAILABLE', 'the pool is gone'))
  expect((await node.info()).drivers[0]).toMatchObject({ state: 'ready', error: 'the pool is gone', storage: null })
})

test('a driver that is not ready is down', async () => {
  const unreachable = new AppError('UNAVAILABLE', 'no pool')
  await using t = await openCore({ prepare: (driver) => driver.fail('start', unreachable) })
  expect(await numbers(t)).toContain('holdfast_driver_up{driver="fake"} 0')
  expect(t.driver.calls).not.toContain('describe fake')
})
