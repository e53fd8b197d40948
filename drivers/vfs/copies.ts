/** New content from a snapshot: clones, which are volumes of their own, and reverts, which swap a volume's content. */

import { rename, stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { DriverContext, TreeArchive } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { Bytes, Snapshot, Volume, VolumeSpec } from '../../src/model.ts'
import { copyTree } from '../../src/system/copy-tree.ts'
import { exec } from '../../src/system/exec.ts'
import { lstatOrNothing, syncPath } from '../../src/system/files.ts'
import { formatSize } from '../../src/units.ts'
import { archiveError } from './archived.ts'
import type { Cleaner } from './cleaner.ts'
import { buildFolder, discardDraft, draftOf, makeDraft } from './drafts.ts'
import { applyAttributes, growImage, imageFileSystem, imageUsage, renewImageId } from './images.ts'
import { dataOf, ensureFree, imageOf, ownerOf, snapshotFolder, volumeFolder } from './layout.ts'
import { parseOptions, type SnapshotKind, stateOf, type VfsOptions, type VfsState } from './options.ts'
import { inPlace, makePlace, type Plan, planVolume, snapshotKindIn, stateIn, syncPlace } from './places.ts'
import { limitByGroup } from './quota.ts'
import type { Storage } from './storage.ts'
import { clearForSwap, ensureOwn, type Swap, swapIn, swapOf } from './swap.ts'
import { plannedState } from './volumes.ts'

/** A finished copy that a clone or a revert begins with. */
interface Source {
  readonly id: string
  /** `VOLUME@SNAPSHOT`. */
  readonly name: string
  readonly folder: string
  readonly kind: SnapshotKind
}

async function sourceOf(storage: Storage, volume: Volume, snapshot: Snapshot): Promise<Source> {
  const folder = await snapshotFolder(storage.layout, volume, snapshot)
  const kind = await snapshotKindIn(folder)
  if (kind) return { id: snapshot.id, name: `${volume.name}@${snapshot.name}`, folder, kind }
  throw new AppError('NOT_FOUND', `snapshot ${volume.name}@${snapshot.name} has lost its data in ${folder}`)
}

/** As `CloneCapability.create`. */
export async function createClone(
  storage: Storage,
  ctx: DriverContext,
  spec: VolumeSpec,
  volume: Volume,
  snapshot: Snapshot,
): Promise<VfsState> {
  const options = parseOptions(spec)
  if (options.adopt !== null) {
    throw new AppError('INVALID_ARGUMENT', `volume ${spec.name} cannot both adopt a directory and begin as a snapshot`)
  }
  const source = await sourceOf(storage, volume, snapshot)
  const plan =
    source.kind === 'image' ? await planImage(source, spec, options) : await planVolume(storage, spec, options)
  const place = `${storage.layout.volumes}/${spec.name}`
  if ((await ownerOf(place)) === spec.id) return (await stateIn(storage, place)) ?? plannedState(plan)
  await ensureFree(place, `volume ${spec.name}`)
  await buildFolder(storage.layout, spec.id, place, async (draft) => {
    await copyInto(storage, ctx, source, draft, plan)
    if (plan.kind === 'image' && source.kind === 'image') await renewImageId(`${draft}/image`, ctx.signal)
    await inPlace(draft, plan.kind, (root) => applyAttributes(root, options))
    await syncPlace(draft, plan.kind, ctx.signal)
    ctx.signal.throwIfAborted()
  })
  return plannedState(plan)
}

/** @throws INVALID_ARGUMENT for a smaller size or another file system than the image has */
async function planImage(source: Source, spec: VolumeSpec, options: VfsOptions): Promise<Plan> {
  const image = await imageOf(source.folder)
  const fs = await imageFileSystem(image)
  const { size } = await imageUsage(image)
  if (options.fs && options.fs !== fs) {
    throw new AppError('INVALID_ARGUMENT', `the snapshot is an image with ${fs}, not ${options.fs}; leave fs out`)
  }
  if (spec.size !== null && spec.size < (size ?? 0)) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `the snapshot is an image of ${formatSize(size ?? 0)} and cannot become a volume of ${formatSize(spec.size)}; ` +
        'choose at least its size, or leave size out',
    )
  }
  return { kind: 'image', limit: 'image', size: spec.size ?? size ?? 0, fs }
}

/** Fills a draft with the content of a snapshot, kept as planned. */
async function copyInto(
  storage: Storage,
  ctx: DriverContext,
  source: Source,
  draft: string,
  plan: Plan,
): Promise<void> {
  if (source.kind === 'image' && plan.kind === 'image') return copyImage(ctx, source, draft, plan.size)
  if (source.kind === 'archive') {
    await makePlace(storage, draft, plan, ctx.signal)
    return inPlace(draft, plan.kind, (root) => restoreCopy(storage.archive, ctx, source, root))
  }
  const from = await dataOf(source.folder)
  if (source.kind === 'subvolume' && plan.kind === 'subvolume') {
    await exec('btrfs', ['subvolume', 'snapshot', from, `${draft}/data`], { signal: ctx.signal })
    if (plan.size !== null) await limitByGroup(`${draft}/data`, plan.size, ctx.signal)
    return
  }
  await makePlace(storage, draft, plan, ctx.signal)
  await inPlace(draft, plan.kind, (root) => copyTree(from, root, `snapshot ${source.name}`, ctx.signal))
}

async function restoreCopy(archive: TreeArchive, ctx: DriverContext, { id, name }: Source, root: string) {
  await archive.restore(ctx, id, root).catch((error: unknown) => {
    ctx.signal.throwIfAborted()
    throw archiveError(error, `restore snapshot ${name} from the archive`)
  })
}

async function copyImage(ctx: DriverContext, source: Source, draft: string, size: Bytes): Promise<void> {
  const [from, to] = [await imageOf(source.folder), `${draft}/image`]
  const args = ['--reflink=auto', '--sparse=auto', '--', from, to]
  await exec('cp', args, { signal: ctx.signal, timeoutMs: 0 })
  if (size > (await stat(to)).size) await growImage(to, size, `${draft}/live`, ctx.signal)
}

/** As `RevertCapability.revert`: the new content is built aside and swapped in. The volume keeps its size. */
export async function revertVolume(
  storage: Storage,
  cleaner: Cleaner,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
): Promise<VfsState> {
  const state = stateOf(volume)
  ensureOwn(volume, state)
  const swap = swapOf(volume, await volumeFolder(storage.layout, volume), snapshot.id)
  const begun = (await lstatOrNothing(swap.next)) && !(await lstatOrNothing(swap.current))
  if (!begun) {
    await clearForSwap(cleaner, swap, 'the revert would remove', ctx.signal)
    await buildNext(storage, ctx, swap, snapshot)
  }
  await swapIn(cleaner, swap)
  return state
}

async function buildNext(storage: Storage, ctx: DriverContext, swap: Swap, snapshot: Snapshot): Promise<void> {
  const { volume, current, next } = swap
  const source = await sourceOf(storage, volume, snapshot)
  const draft = draftOf(storage.layout, volume.id)
  await makeDraft(draft)
  try {
    const plan = await planRevert(volume, source)
    await copyInto(storage, ctx, source, draft, plan)
    await syncPlace(draft, plan.kind, ctx.signal)
    ctx.signal.throwIfAborted()
    await rename(`${draft}/${basename(current)}`, next)
    await syncPath(dirname(next))
  } finally {
    await discardDraft(draft)
  }
}

async function planRevert(volume: Volume, source: Source): Promise<Plan> {
  const { kind, limit } = stateOf(volume)
  if (kind === 'image') {
    const image = await imageOf(source.folder)
    const now = Math.max(volume.size ?? 0, (await imageUsage(image)).size ?? 0)
    return { kind, limit: 'image', size: now, fs: await imageFileSystem(image) }
  }
  if (kind === 'subvolume') return { kind, limit: limit === 'qgroup' ? limit : null, size: limit ? volume.size : null }
  return { kind, limit: limit === 'project' ? limit : null, size: limit ? volume.size : null }
}
