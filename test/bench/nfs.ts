/**
 * What the nfs driver adds, over a real NFS server on the same machine: Mount and Unmount of a volume on a mounted
 * export beside `mount --bind` and `umount`; how soon another node hears of a volume, also among 5,000. Runs in the
 * kernel lab (CONTRIBUTING.md): ratios and waits mean something there, milliseconds little.
 */

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Driver, SharedNews } from '../../src/driver.ts'
import type { Volume } from '../../src/model.ts'
import { exec } from '../../src/system/exec.ts'
import { context, newVolume, targetIn } from '../conformance/driver-bed.ts'
import { type NfsBed, nfsBed } from '../conformance/driver-nfs.ts'
import { inTurn, median, ms, report, times } from './measure.ts'

const runs = 15
const many = Number(process.argv[2] ?? 5_000)
/** Of those that are made at once. */
const hands = 16

async function make(driver: Driver, name: string): Promise<Volume> {
  const draft = newVolume(name, { driver: 'nfs' })
  const volume = { ...draft, state: await driver.createVolume(context(), draft) }
  await driver.shared?.publish(context(), volume, [])
  return volume
}

/** A node that hears what happens, with the ids that it has heard of. */
async function listening(bed: NfsBed, name: string) {
  const driver = bed.node(name)
  await driver.start(context(), [], [])
  const heard = new Set<string>()
  let listed = 0
  void driver.shared?.watch(new AbortController().signal, (news: SharedNews) => {
    if (news.kind === 'changed') heard.add(news.volume.volume.id)
    if (news.kind === 'listing') listed = news.volumes.length
  })
  return { driver, heard, listed: () => listed }
}

async function waitFor(isThere: () => boolean): Promise<void> {
  while (!isThere()) await new Promise((resolve) => setTimeout(resolve, 2))
}

async function discovery(a: Driver, heard: ReadonlySet<string>, prefix: string): Promise<number> {
  const waits: number[] = []
  for (let run = 0; run < runs; run++) {
    const { id } = await make(a, `${prefix}${run}`)
    const begun = performance.now()
    await waitFor(() => heard.has(id))
    waits.push(performance.now() - begun)
  }
  return median(waits)
}

async function mounting(bed: NfsBed, driver: Driver): Promise<(string | number)[][]> {
  const volume = await make(driver, 'mounted')
  const [target, plain] = [targetIn(bed), join(bed.directory, 'plain')]
  await mkdir(plain)
  await driver.mount(context(), volume, target)
  const both = await inTurn(
    runs,
    async () => {
      await driver.unmount(context(), volume, target)
      await driver.mount(context(), volume, target)
    },
    async () => {
      await exec('mount', ['--bind', join(bed.exported, 'volumes/mounted/data'), plain])
      await exec('umount', [plain])
    },
  )
  await driver.unmount(context(), volume, target)
  return [['Mount and Unmount, beside mount --bind and umount', ms(both.ours), ms(both.theirs), times(both.ratio)]]
}

async function fill(driver: Driver, count: number): Promise<void> {
  const names = Array.from({ length: count }, (_, number) => `many${number}`).values()
  const hand = async () => {
    for (const name of names) await make(driver, name)
  }
  await Promise.all(Array.from({ length: hands }, hand))
}

const bed = await nfsBed({ reflink: true })
const a = bed.node('a')
await a.start(context(), [], [])
const b = await listening(bed, 'b')
report('nfs: mounts', ['what', 'Holdfast', 'shell', 'ratio'], await mounting(bed, a))
const few = await discovery(a, b.heard, 'few')
await fill(a, many)
const crowded = await discovery(a, b.heard, 'crowd')
const c = await listening(bed, 'c')
const begun = performance.now()
await waitFor(() => c.listed() >= many)
report(
  'nfs: what another node hears',
  ['what', 'median'],
  [
    ['a new volume, among few', ms(few)],
    [`a new volume, among ${many}`, ms(crowded)],
    [`all ${many}, by a node that has just started`, ms(performance.now() - begun)],
  ],
)
await Promise.all([a, b.driver, c.driver].map((driver) => driver.stop()))
await bed.dispose()
