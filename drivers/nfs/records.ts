/**
 * The records of volumes and snapshots on a share, beside their data:
 *
 *     volumes/NAME/record.json                  trash/NAME~ID/record.json
 *     volumes/NAME/snapshots/S/record.json
 *
 * A folder without one is nobody's volume yet. What is told from the place alone (name, id, whether it is in the trash)
 * is believed before the record: a rename is one step. Everything that is read comes from other nodes, and is checked;
 * a record that is damaged harms only its own volume.
 */

import type { SharedVolume } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { DriverState, Hooks, Json, OnRemove, Snapshot, TrashedVolume, Volume } from '../../src/model.ts'
import { lstatOrNothing, readdirOrNothing } from '../../src/system/files.ts'
import { parseSnapshotName, parseVolumeName } from '../../src/units.ts'
import { findVolume, type Layout, ownerOf } from '../vfs/layout.ts'
import { isObject, readJson, writeJson } from './json-file.ts'

const recordFile = 'record.json'

/** Folders that are read at once: each takes some round trips. */
const atOnce = 32

/** A volume's place, as changes name it: `volumes/NAME` or `trash/NAME~ID`. */
export type FolderKey = string

export function keyOf(name: string): FolderKey {
  return `volumes/${name}`
}

export function trashKeyOf({ name, id }: Pick<Volume, 'name' | 'id'>): FolderKey {
  return `trash/${name}~${id}`
}

/** What a key names. @returns null for anything that is none */
function parseKey(key: FolderKey): { readonly name: string; readonly trashedId: string | null } | null {
  const match = /^(?:volumes\/([^/~]+)|trash\/([^/~]+)~([0-9a-zA-Z-]{1,64}))$/.exec(key)
  const name = match?.[1] ?? match?.[2]
  return name !== undefined && isName(name) ? { name, trashedId: match?.[3] ?? null } : null
}

function isName(name: string): boolean {
  try {
    return parseVolumeName(name) === name
  } catch {
    return false
  }
}

function isSnapshotName(name: string): boolean {
  try {
    return parseSnapshotName(name) === name
  } catch {
    return false
  }
}

/** As `SharedCapability.publish`. @returns the key of what has changed */
export async function writeRecords(
  layout: Layout,
  volume: Volume | TrashedVolume,
  snapshots: readonly Snapshot[],
): Promise<FolderKey> {
  const folder = await findVolume(layout, volume)
  if (!folder) throw new AppError('NOT_FOUND', `the data of volume ${volume.name} is gone; nothing can be said of it`)
  for (const snapshot of snapshots) {
    const place = `${folder}/snapshots/${snapshot.name}`
    if ((await ownerOf(place)) === snapshot.id) await writeJson(`${place}/${recordFile}`, { format: 1, ...snapshot })
  }
  await writeJson(`${folder}/${recordFile}`, { format: 1, ...volume })
  return folder.startsWith(`${layout.trash}/`) ? trashKeyOf(volume) : keyOf(volume.name)
}

/** The volume at a key; null when there is none that is published. */
export async function readVolume(layout: Layout, key: FolderKey): Promise<SharedVolume | null> {
  const place = parseKey(key)
  if (!place) return null
  const folder =
    place.trashedId === null ? `${layout.volumes}/${place.name}` : `${layout.trash}/${key.slice('trash/'.length)}`
  const content = await readJson(`${folder}/${recordFile}`)
  if (content === undefined) return null
  const id = (await ownerOf(folder)) ?? ''
  if (id === '' && !(await lstatOrNothing(folder))) return null // It has just been moved.
  const told = volumeOf(content, { ...place, id })
  return { volume: told, snapshots: told.damage === undefined ? await readSnapshots(folder, told) : [] }
}

/** Every volume that is published, in the trash too. */
export async function readAll(layout: Layout): Promise<Map<FolderKey, SharedVolume>> {
  const [live, trashed] = await Promise.all([readdirOrNothing(layout.volumes), readdirOrNothing(layout.trash)])
  const keys = [...live.map((name) => keyOf(name)), ...trashed.map((name) => `trash/${name}`)]
  const found = new Map<FolderKey, SharedVolume>()
  const work = keys.values()
  const hand = async () => {
    for (const key of work) {
      const volume = await readVolume(layout, key)
      if (volume) found.set(key, volume)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, hand))
  return found
}

async function readSnapshots(folder: string, volume: Volume): Promise<Snapshot[]> {
  const names = (await readdirOrNothing(`${folder}/snapshots`)).filter(isSnapshotName)
  const read = await Promise.all(names.map((name) => readSnapshot(`${folder}/snapshots/${name}`, name, volume)))
  return read.flatMap((snapshot) => snapshot ?? [])
}

async function readSnapshot(folder: string, name: string, { id: volumeId }: Volume): Promise<Snapshot | null> {
  const content = await readJson(`${folder}/${recordFile}`)
  if (content === undefined) return null
  const id = await ownerOf(folder)
  return id === undefined ? null : snapshotOf(content, { id, volumeId, name })
}

/** Where a volume is, which is believed before its record. */
interface Told {
  readonly name: string
  readonly id: string
  readonly trashedId: string | null
}

const epoch = new Date(0).toISOString()

function volumeOf(content: unknown, { name, id, trashedId }: Told): Volume | TrashedVolume {
  const base = {
    id,
    name,
    driver: 'nfs',
    size: null,
    options: {},
    labels: {},
    onRemove: 'trash',
    origin: null,
    hooks: {},
  } as const
  const trashed =
    trashedId === null ? {} : { deletedAt: time(content, 'deletedAt') ?? epoch, purgeAt: time(content, 'purgeAt') }
  const damaged = (what: string): Volume => {
    const damage = `its record on the share ${what}`
    return { ...base, createdAt: epoch, state: null, damage, ...trashed }
  }
  if (id === '' || (trashedId !== null && trashedId !== id))
    return damaged('lies in a folder that does not say whose it is')
  if (!isObject(content)) return damaged('cannot be read')
  if (content.format !== 1) return damaged('was written by another version of Holdfast')
  if (content.id !== id) return damaged('is that of another volume')
  const { size, options, labels, onRemove, origin, state } = content
  const createdAt = time(content, 'createdAt')
  const hooks = hooksOf(content.hooks)
  if (
    !isSize(size) ||
    !isTexts(options) ||
    !isTexts(labels) ||
    !isOnRemove(onRemove) ||
    !isTextOrNull(origin) ||
    !createdAt
  ) {
    return damaged('has a part that is none of a volume')
  }
  if (!hooks || !isState(state)) return damaged('has a part that is none of a volume')
  const placed = { ...state, trashed: trashedId !== null }
  return { ...base, size, options, labels, onRemove, origin, hooks, createdAt, state: placed, ...trashed }
}

function snapshotOf(content: unknown, base: { id: string; volumeId: string; name: string }): Snapshot {
  const damaged = { ...base, createdAt: epoch, labels: {}, atomic: false, size: null, used: null, state: null }
  const damage = 'its record on the share cannot be read'
  if (!isObject(content) || content.id !== base.id) return { ...damaged, damage }
  const { labels, atomic, size, used, state } = content
  const createdAt = time(content, 'createdAt')
  if (!createdAt || !isTexts(labels) || !isSize(size) || !isSize(used) || !isState(state)) return { ...damaged, damage }
  return { ...base, createdAt, labels, atomic: atomic === true, size, used, state }
}

function isSize(value: unknown): value is number | null {
  return value === null || (Number.isSafeInteger(value) && (value as number) >= 0)
}

function isTexts(value: unknown): value is Readonly<Record<string, string>> {
  return isObject(value) && Object.values(value).every((text) => typeof text === 'string')
}

function isTextOrNull(value: unknown): value is string | null {
  return value === null || typeof value === 'string'
}

function isOnRemove(value: unknown): value is OnRemove {
  return value === 'trash' || value === 'delete' || value === 'retain'
}

function isState(value: unknown): value is DriverState {
  return (
    isObject(value) && Object.values(value).every((part): part is Json => part === null || typeof part !== 'object')
  )
}

function time(content: unknown, key: string): string | null {
  const value = isObject(content) ? content[key] : undefined
  if (typeof value !== 'string' || Number.isNaN(Date.parse(value))) return null
  return new Date(value).toISOString()
}

/** @returns null when they are none */
function hooksOf(value: unknown): Hooks | null {
  if (!isObject(value)) return null
  const { pre, post, container, timeoutMs } = value
  const isText = (text: unknown) => text === undefined || typeof text === 'string'
  if (![pre, post, container].every(isText)) return null
  if (timeoutMs !== undefined && !(Number.isSafeInteger(timeoutMs) && (timeoutMs as number) > 0)) return null
  return Object.fromEntries(
    Object.entries({ pre, post, container, timeoutMs }).filter(([, part]) => part !== undefined),
  ) as Hooks
}
