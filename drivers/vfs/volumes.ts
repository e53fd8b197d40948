/** Volumes: creating, deleting, mounting, measuring, resizing. What they are kept in is places.ts' and images.ts' business. */

import { randomUUID } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import type { DriverContext, Usage } from '../../src/driver.ts'
import { AppError, fromErrno } from '../../src/errors.ts'
import type { Bytes, Volume, VolumeSpec } from '../../src/model.ts'
import { exec, run, toolError } from '../../src/system/exec.ts'
import { lstatOrNothing } from '../../src/system/files.ts'
import { isAttached, mountOf } from '../../src/system/loop.ts'
import { formatSize } from '../../src/units.ts'
import { type Adoptions, adoptable } from './adoptions.ts'
import { buildFolder, draftOf, removeByDraft, removeDraft } from './drafts.ts'
import {
  alone,
  applyAttributes,
  growImage,
  imageSize,
  imageUsage,
  mountImage,
  unmountImage,
  withImage,
} from './images.ts'
import { dataOf, ensureFree, findVolume, imageOf, type Layout, ownerOf, volumeFolder } from './layout.ts'
import { parseOptions, stateOf, type VfsOptions, type VfsState } from './options.ts'
import { inPlace, makePlace, type Plan, planVolume, stateIn, syncPlace } from './places.ts'
import { groupUsage, limitByGroup, projectUsage, releasingGroup, releasingProject, resizeProject } from './quota.ts'
import type { Storage } from './storage.ts'

/** @returns the state of a volume that is kept as planned */
export function plannedState(plan: Plan): VfsState {
  return { kind: plan.kind, limit: plan.limit, adopt: null, trashed: false }
}

/** As `Driver.createVolume`. */
export async function createVolume(
  storage: Storage,
  adoptions: Adoptions,
  ctx: DriverContext,
  spec: VolumeSpec,
): Promise<VfsState> {
  const options = parseOptions(spec)
  const place = `${storage.layout.volumes}/${spec.name}`
  const there = (await ownerOf(place)) === spec.id
  if (!there) await ensureFree(place, `volume ${spec.name}`)
  if (options.adopt !== null) return adoptVolume(storage, adoptions, spec, options, there)
  const plan = await planVolume(storage, spec, options)
  if (there) return (await stateIn(storage, place)) ?? plannedState(plan)
  await buildFolder(storage.layout, spec.id, place, (draft) => fillDraft(storage, draft, plan, options, ctx.signal))
  return plannedState(plan)
}

async function fillDraft(storage: Storage, draft: string, plan: Plan, options: VfsOptions, signal: AbortSignal) {
  await makePlace(storage, draft, plan, signal)
  if (options.uid !== null || options.gid !== null || options.mode !== null) {
    await inPlace(draft, plan.kind, (root) => applyAttributes(root, options))
  }
  if (plan.kind === 'image') await syncPlace(draft, plan.kind, signal)
  signal.throwIfAborted()
}

async function adoptVolume(
  storage: Storage,
  adoptions: Adoptions,
  spec: VolumeSpec,
  options: VfsOptions,
  there: boolean,
): Promise<VfsState> {
  const directory = await adoptable(storage.layout, options.adopt ?? '')
  adoptions.claim(directory, spec)
  try {
    await applyAttributes(directory, options)
    const place = `${storage.layout.volumes}/${spec.name}`
    if (!there) await buildFolder(storage.layout, spec.id, place, async () => undefined)
  } catch (error) {
    if (!there) adoptions.release(spec.id)
    throw fromErrno(error, `adopt ${directory}`)
  }
  return { kind: 'directory', limit: null, adopt: directory, trashed: false }
}

/** As `Driver.deleteVolume`. */
export async function deleteVolume(
  storage: Storage,
  adoptions: Adoptions,
  ctx: DriverContext,
  volume: Volume,
): Promise<void> {
  await removeDraft(storage, ctx, volume.id)
  const folder = await findVolume(storage.layout, volume)
  if (folder) await releasingLimit(storage, volume, folder, () => removeUnused(storage, ctx, volume, folder))
  adoptions.release(volume.id)
}

async function removeUnused(storage: Storage, ctx: DriverContext, volume: Volume, folder: string): Promise<void> {
  await detached(volume, folder, () => removeByDraft(storage, ctx, volume.id, folder))
}

async function releasingLimit(storage: Storage, volume: Volume, folder: string, remove: () => Promise<void>) {
  const limit = volume.state && stateOf(volume).limit
  if ((limit === 'project' || limit === 'qgroup') && (await lstatOrNothing(`${folder}/data`))?.isDirectory()) {
    if (limit === 'project') return releasingProject(storage, `${folder}/data`, remove)
    return releasingGroup(storage.layout.base, `${folder}/data`, remove)
  }
  return remove()
}

/**
 * Calls `use` while the volume, if it is an image, is not mounted anywhere on this host and nobody can mount it.
 * @throws IN_USE
 */
export async function detached<T>(volume: Volume, folder: string, use: () => Promise<T>): Promise<T> {
  const image = `${folder}/image`
  return alone(image, async () => {
    if (!(await isAttached(image))) return use()
    const where = (await mountOf(image))?.mountpoint ?? 'another mount namespace'
    throw new AppError('IN_USE', `volume ${volume.name} is still mounted at ${where}; stop what uses it`)
  })
}

/** As `Driver.mountpoint`. */
export function mountpointOf(layout: Layout, volume: Volume, target: string): string {
  const state = stateOf(volume)
  if (state.kind === 'image') return target
  return state.adopt ?? `${layout.volumes}/${volume.name}/data`
}

/** As `Driver.mount`: only an image has to be mounted, a directory has to be there. */
export async function mountVolume(layout: Layout, ctx: DriverContext, volume: Volume, target: string): Promise<void> {
  const state = stateOf(volume)
  if (state.adopt !== null) return ensureAdopted(volume, state.adopt)
  const folder = await volumeFolder(layout, volume)
  if (state.kind !== 'image') return void (await dataOf(folder))
  // Looked up when it is our turn: it may just be going.
  await alone(`${folder}/image`, async () => mountImage(await imageOf(folder), target, 'volume', ctx.signal))
}

/** @throws NOT_FOUND, FAILED_PRECONDITION when the path has been replaced or leads elsewhere now */
async function ensureAdopted(volume: Volume, directory: string): Promise<void> {
  const now = await realpath(directory).catch((error: unknown) => {
    throw fromErrno(error, `mount volume ${volume.name}, which is the adopted directory ${directory}`)
  })
  if (now !== directory) {
    throw new AppError(
      'FAILED_PRECONDITION',
      `volume ${volume.name} has adopted ${directory}, which now leads to ${now}; put the directory back, or adopt that one`,
    )
  }
  if ((await lstatOrNothing(directory))?.isDirectory()) return
  throw new AppError(
    'FAILED_PRECONDITION',
    `volume ${volume.name} has adopted ${directory}, which is no directory any more`,
  )
}

/** As `Driver.unmount`. */
export async function unmountVolume(layout: Layout, ctx: DriverContext, volume: Volume, target: string): Promise<void> {
  if (stateOf(volume).kind !== 'image') return
  await unmountImage(`${layout.volumes}/${volume.name}/image`, target, ctx.signal)
}

/** Where a volume's files are when it is not an image. @throws NOT_FOUND */
export async function treeOf(layout: Layout, volume: Volume): Promise<string> {
  const { adopt } = stateOf(volume)
  if (adopt === null) return dataOf(await volumeFolder(layout, volume))
  await ensureAdopted(volume, adopt)
  return adopt
}

/** As `Driver.usage`. */
export async function usageOf(layout: Layout, ctx: DriverContext, volume: Volume, exact: boolean): Promise<Usage> {
  const { kind, limit } = stateOf(volume)
  if (kind === 'image') return imageUsage(await imageOf(await volumeFolder(layout, volume)))
  const directory = await treeOf(layout, volume)
  if (limit === 'project') return projectUsage(directory)
  if (limit === 'qgroup') return groupUsage(directory)
  return { used: exact ? await measure(directory, ctx.signal) : null, size: null }
}

async function measure(directory: string, signal: AbortSignal): Promise<Bytes> {
  const args = ['--summarize', '--block-size=1', '--one-file-system', '--', directory]
  // Files that vanish meanwhile make du fail, and its sum is right all the same.
  const result = await run('du', args, { signal, timeoutMs: 0 })
  const bytes = Number.parseInt(result.stdout, 10)
  if (Number.isNaN(bytes)) throw toolError('du', result)
  return bytes
}

/** As `ResizeCapability.resize`. */
export async function resizeVolume(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  size: Bytes,
): Promise<VfsState> {
  const state = stateOf(volume)
  const folder = await volumeFolder(storage.layout, volume)
  if (state.kind === 'image') await resizeImage(storage.layout, ctx, volume, await imageOf(folder), size)
  else if (state.limit === 'project') await resizeProject(storage, await dataOf(folder), size, ctx.signal)
  else if (state.kind === 'subvolume' && (await storage.groupQuota())) {
    await limitByGroup(await dataOf(folder), size, ctx.signal)
    return { ...state, limit: 'qgroup' }
  } else {
    throw new AppError(
      'NOT_SUPPORTED',
      `volume ${volume.name} was created without a size and cannot be given one; ` +
        'take a snapshot and create a volume of the size you want from it',
    )
  }
  return state
}

async function resizeImage(layout: Layout, ctx: DriverContext, volume: Volume, image: string, size: Bytes) {
  await alone(image, async () => {
    const scratch = scratchOf(layout, volume)
    const current = await imageSize(image, scratch)
    if (size < current) {
      throw new AppError(
        'NOT_SUPPORTED',
        `volume ${volume.name} is an image of ${formatSize(current)}, which can grow but not shrink; ` +
          'create a smaller volume and copy the data',
      )
    }
    await growImage(image, size, scratch, ctx.signal)
  })
}

/** As `TrimCapability.trim`: only an image holds blocks that its file system has freed. */
export async function trimVolume(layout: Layout, ctx: DriverContext, volume: Volume): Promise<Bytes> {
  if (stateOf(volume).kind !== 'image') return 0
  const image = await imageOf(await volumeFolder(layout, volume))
  const before = (await imageUsage(image)).used ?? 0
  await withImage(image, scratchOf(layout, volume), async (root) => {
    await exec('fstrim', [root], { signal: ctx.signal, timeoutMs: 0 })
  })
  return Math.max(0, before - ((await imageUsage(image)).used ?? 0))
}

/** A directory in tmp, this call's own, to mount the volume's image at for a moment. */
export function scratchOf(layout: Layout, volume: Volume): string {
  return `${draftOf(layout, volume.id)}.live-${randomUUID()}`
}
