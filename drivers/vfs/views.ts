/**
 * Archived snapshots made readable: their content is restored into a directory of the driver's, a view, which every mount of the
 * snapshot shows and which goes with the last of them.
 */

import { mkdir } from 'node:fs/promises'
import type { DriverContext } from '../../src/driver.ts'
import type { Snapshot } from '../../src/model.ts'
import { lstatOrNothing, readdirOrNothing } from '../../src/system/files.ts'
import { usesOf } from '../../src/system/mount.ts'
import type { Cleaner } from './cleaner.ts'
import { buildFolder } from './drafts.ts'
import { alone } from './images.ts'
import { dataOf, type Layout, ownerOf } from './layout.ts'
import type { Storage } from './storage.ts'

function viewOf(layout: Layout, snapshot: Snapshot): string {
  return `${layout.views}/${snapshot.id}`
}

/**
 * Calls `show` with the snapshot's content, which is restored when it is not there yet. A crash leaves at most a view that nobody
 * uses. @throws NO_SPACE
 */
export async function inView(
  storage: Storage,
  ctx: DriverContext,
  snapshot: Snapshot,
  show: (data: string) => Promise<void>,
): Promise<void> {
  const view = viewOf(storage.layout, snapshot)
  await alone(view, async () => {
    const id = `${snapshot.id}.view`
    if ((await ownerOf(view)) !== id) {
      await buildFolder(storage.layout, id, view, async (draft) => {
        await mkdir(`${draft}/data`, { mode: 0o700 })
        await storage.archive.restore(ctx, snapshot.id, `${draft}/data`)
        ctx.signal.throwIfAborted()
      })
    }
    await show(await dataOf(view))
  })
}

/** Whether a mount on this host shows the view of a snapshot. */
export async function isViewUsed(layout: Layout, snapshot: Snapshot): Promise<boolean> {
  return isUsed(viewOf(layout, snapshot))
}

/** Removes the view of a snapshot unless something shows it; none is success. */
export async function dropView(layout: Layout, cleaner: Cleaner, snapshot: Snapshot): Promise<void> {
  const view = viewOf(layout, snapshot)
  // Asked for every snapshot that is unmounted: most have none.
  if (await lstatOrNothing(view)) await alone(view, () => dropUnused(view, cleaner))
}

/** Removes the views that an earlier life has left and nothing shows any more. */
export async function dropUnusedViews(layout: Layout, cleaner: Cleaner): Promise<void> {
  for (const name of await readdirOrNothing(layout.views)) await dropUnused(`${layout.views}/${name}`, cleaner)
}

async function dropUnused(view: string, cleaner: Cleaner): Promise<void> {
  if ((await lstatOrNothing(view)) && !(await isUsed(view))) await cleaner.take(view)
}

async function isUsed(view: string): Promise<boolean> {
  return (await lstatOrNothing(view)) !== undefined && (await usesOf(view, [])).length > 0
}
