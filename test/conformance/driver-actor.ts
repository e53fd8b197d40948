/**
 * A daemon's life in short, to be killed in its middle: starts the vfs driver, prints `ready`, makes one call, prints `done`.
 * Argument: an `Act` as JSON.
 */

import { vfs } from '../../drivers/vfs/vfs.ts'
import type { Driver } from '../../src/driver.ts'
import { createEngine } from '../../src/engine/engine.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import { Archive } from '../../src/services/backups/archive.ts'
import { context, silent } from './driver-bed.ts'

/** What an actor is told. */
export interface Act {
  readonly directory: string
  readonly call: keyof typeof calls
  readonly volume: Volume
  readonly snapshot: Snapshot
  /** What is made, or taken from. */
  readonly other: Volume
  readonly target: string
}

type Call = (driver: Required<Driver>, act: Act) => Promise<unknown>

const calls = {
  snapshot: ({ snapshots }, { volume, snapshot }) => snapshots.create(context(), volume, { ...snapshot, frozen: true }),
  forget: ({ snapshots }, { volume, snapshot }) => snapshots.delete(context(), volume, snapshot),
  mount: ({ snapshots }, { volume, snapshot, target }) => snapshots.mount(context(), volume, snapshot, target),
  clone: ({ clone }, { volume, snapshot, other }) => clone.create(context(), other, volume, snapshot),
  revert: ({ revert }, { volume, snapshot }) => revert.revert(context(), volume, snapshot),
  replace: ({ replace }, { volume, other }) => replace.replace(context(), volume, other),
} satisfies Record<string, Call>

const act = JSON.parse(process.argv[2] as string) as Act
const { directory } = act
const engine = createEngine({ log: silent })
const environment = { root: directory, archive: (at: string) => new Archive(engine, at) }
const driver = vfs.create({ path: `${directory}/vfs` }, environment) as Required<Driver>
await driver.start(context(), [act.volume], [])
process.stdout.write('ready\n')
await (calls[act.call] as Call)(driver, act)
process.stdout.write('done\n')
await driver.stop()
await engine.stop()
