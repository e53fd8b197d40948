/** The nfs driver's settings and options: what may be given, parsing, checking. No I/O. Facts: nfs(5), mount.nfs(8). */

import { createHash } from 'node:crypto'
import type { OptionHelp } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { VolumeSpec } from '../../src/model.ts'
import { suggestion } from '../../src/units.ts'

/** Keys of `--driver-opt nfs.KEY=VALUE`. */
export const settings: Readonly<Record<string, OptionHelp>> = {
  server: { description: 'NFS server of volumes that name none', example: 'nas.example.org' },
  export: { description: 'its export that holds the volumes', example: '/srv/volumes' },
  version: { description: 'version of the protocol: 4.2 (the default), 4.1, 4.0 or 3', example: '4.1' },
  'mount-options': { description: 'options of mount.nfs for what containers see', example: 'nconnect=4,noatime' },
}

/** The keys of `-o` that are this driver's own. */
export const volumeOptions: Readonly<Record<string, OptionHelp>> = {
  server: { description: 'NFS server, when not the setting nfs.server', example: 'nas.example.org' },
  export: { description: 'export of it, when not the setting nfs.export', example: '/srv/volumes' },
  subdir: { description: 'be this directory of the export; it is made, and never deleted', example: 'projects/web' },
  access: { description: 'multi (the default): every node; single: one node at a time', example: 'single' },
  uid: { description: "owner of the volume's root directory", example: '999' },
  gid: { description: "group of the volume's root directory", example: '999' },
  mode: { description: "permissions of the volume's root directory, octal", example: '0750' },
}

export const versions = ['4.2', '4.1', '4.0', '3'] as const

export type NfsVersion = (typeof versions)[number]

/** One export as this node mounts it. */
export interface NfsExport {
  readonly server: string
  /** Absolute, normal. */
  readonly path: string
  readonly version: NfsVersion
  /** As given, checked: `nconnect=4`. */
  readonly options: readonly string[]
}

/** What `nfs.*` say; null: not given. */
export interface NfsSettings {
  readonly server: string | null
  readonly export: string | null
  readonly version: NfsVersion
  readonly options: readonly string[]
}

/** A volume's options, parsed. */
export interface NfsOptions {
  readonly server: string | null
  readonly export: string | null
  /** Relative, normal: `projects/web`. */
  readonly subdir: string | null
  readonly access: Access
}

export type Access = 'multi' | 'single'

/** Options that say how the server is reached; the driver's own view of an export has them too. */
const connectionKeys = [
  ...['proto', 'port', 'sec', 'clientaddr', 'resvport', 'noresvport', 'mountport', 'mountproto', 'mounthost'],
  ...['mountvers', 'xprtsec', 'minorversion', 'max_connect', 'nconnect'],
]

const dataKeys = [
  ...['hard', 'soft', 'softerr', 'softreval', 'nosoftreval', 'timeo', 'retrans', 'rsize', 'wsize', 'ac', 'noac'],
  ...['acregmin', 'acregmax', 'acdirmin', 'acdirmax', 'actimeo', 'cto', 'nocto', 'lookupcache', 'fsc', 'nofsc'],
  ...['lock', 'nolock', 'local_lock', 'acl', 'noacl', 'rdirplus', 'nordirplus', 'migration', 'nomigration', 'namlen'],
  ...['atime', 'noatime', 'relatime', 'diratime', 'nodiratime', 'suid', 'nosuid', 'dev', 'nodev', 'exec', 'noexec'],
  ...['context', 'rsize', 'wsize', 'trunkdiscovery', 'notrunkdiscovery'],
]

/** Why a known option is not the user's to give. */
const refusedKeys: Readonly<Record<string, string>> = {
  vers: 'give the setting nfs.version',
  nfsvers: 'give the setting nfs.version',
  v3: 'give the setting nfs.version',
  bg: 'the driver tries again by itself',
  fg: 'the driver tries again by itself',
  retry: 'the driver tries again by itself',
  ro: 'mount the volume read-only where it is used: docker run -v NAME:/path:ro',
  sharecache: 'the driver chooses it',
  nosharecache: 'the driver chooses it',
}

function fail(message: string): never {
  throw new AppError('INVALID_ARGUMENT', message)
}

/** @throws INVALID_ARGUMENT */
export function parseSettings(given: Readonly<Record<string, string>>): NfsSettings {
  return {
    server: given.server === undefined ? null : parseServer('nfs.server', given.server),
    export: given.export === undefined ? null : parseExport('nfs.export', given.export),
    version: parseVersion(given.version),
    options: parseMountOptions(given['mount-options'] ?? ''),
  }
}

/** @throws INVALID_ARGUMENT, NOT_SUPPORTED for a size that nothing can enforce */
export function parseOptions({ size, options }: VolumeSpec): NfsOptions {
  const { server, export: path, subdir, access = 'multi' } = options
  if (access !== 'multi' && access !== 'single') fail(`'${access}' is no value for access; give multi or single`)
  const parsed = {
    server: server === undefined ? null : parseServer('server', server),
    export: path === undefined ? null : parseExport('export', path),
    subdir: subdir === undefined ? null : parseSubdir(subdir),
    access: access as Access,
  }
  if (size !== null) requireEnforceable(parsed)
  return parsed
}

function requireEnforceable({ access, subdir }: NfsOptions): void {
  if (subdir !== null) {
    throw new AppError(
      'NOT_SUPPORTED',
      `a size cannot be enforced on subdir=${subdir}, which may hold anything already; leave one of them out`,
    )
  }
  if (access === 'single') return
  throw new AppError(
    'NOT_SUPPORTED',
    'a size cannot be enforced on an NFS volume that every node may mount: leave size out and set a quota on the server, ' +
      'or give access=single, which keeps the volume in an image file for one node at a time',
  )
}

function parseServer(key: string, text: string): string {
  const isName = /^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,251}[a-zA-Z0-9])?$/.test(text)
  if (isName || /^\[[0-9a-fA-F:.]+(%[a-zA-Z0-9_.-]+)?\]$/.test(text)) return text
  if (/^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$/.test(text)) return `[${text}]`
  return fail(`'${text}' is no value for ${key}; give a host name or an address`)
}

function parseExport(key: string, text: string): string {
  if (!text.startsWith('/') || hasBadPart(text)) {
    fail(`'${text}' is no value for ${key}; give the absolute path that the server exports, such as /srv/volumes`)
  }
  return text.replaceAll(/\/+/g, '/').replace(/(.)\/$/, '$1')
}

function parseSubdir(text: string): string {
  const normal = text.replaceAll(/\/+/g, '/').replace(/\/$/, '')
  const first = normal.split('/', 1)[0]
  if (normal === '' || normal.startsWith('/') || hasBadPart(normal) || first === '.holdfast' || first === 'volumes') {
    fail(
      `'${text}' is no value for subdir; give the path of a directory in the export that is not Holdfast's own, such as projects/web`,
    )
  }
  return normal
}

/** Whether a path leads elsewhere than it says, or cannot be an argument. */
function hasBadPart(path: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  return /[\x00-\x1f\x7f]/.test(path) || path.split('/').some((part) => part === '..' || part === '.')
}

function parseVersion(text: string | undefined): NfsVersion {
  if (text === undefined) return '4.2'
  const known = versions.find((version) => version === text)
  return known ?? fail(`'${text}' is no value for nfs.version; give one of ${versions.join(', ')}`)
}

function parseMountOptions(text: string): string[] {
  const options = text.split(',').map((option) => option.trim())
  return options.filter((option) => option !== '').map(checkMountOption)
}

function checkMountOption(option: string): string {
  const key = option.split('=', 1)[0] ?? ''
  const refused = Object.hasOwn(refusedKeys, key) ? refusedKeys[key] : undefined
  if (refused !== undefined) fail(`nfs.mount-options cannot have '${key}': ${refused}`)
  const known = [...connectionKeys, ...dataKeys]
  if (!known.includes(key)) fail(`nfs.mount-options has the unknown option '${key}'${suggestion(key, known)}`)
  if (!/^[a-z0-9_]+(=[a-zA-Z0-9_.:@/+-]+)?$/.test(option)) fail(`nfs.mount-options: '${option}' is no value of ${key}`)
  return option
}

/** The export that a volume is on. @throws INVALID_ARGUMENT when neither it nor the settings say */
export function exportOf(given: NfsSettings, options: Pick<NfsOptions, 'server' | 'export'>): NfsExport {
  const server = options.server ?? given.server
  const path = options.export ?? given.export
  if (server !== null && path !== null) return { server, path, version: given.version, options: given.options }
  const missing = server === null ? 'server' : 'export'
  return fail(
    `no NFS ${missing} is given; give -o ${missing}=…, or start the daemon with --driver-opt nfs.${missing}=…`,
  )
}

/** `server:/export`, for people and for mount.nfs. */
export function labelOf({ server, path }: Pick<NfsExport, 'server' | 'path'>): string {
  return `${server}:${path}`
}

/** A name for the export's folder on this node; the same on each. */
export function hashOf(place: NfsExport): string {
  return createHash('sha256').update(labelOf(place)).digest('hex').slice(0, 16)
}

/** Where this node has an export mounted for the driver itself. */
export function workOf(root: string, place: NfsExport): string {
  return `${root}/nfs/${hashOf(place)}/work`
}

/** The archive of snapshots on an export, by the driver's own view. */
export function archiveOf(root: string, place: NfsExport): string {
  return `${workOf(root, place)}/.holdfast/data/repository`
}

/** Whether the server copies files by itself when it is asked to: COPY and CLONE are of version 4.2. */
export function copiesOnServer({ version }: NfsExport): boolean {
  return version === '4.2'
}

function versionOption(version: NfsVersion): string {
  return `vers=${version}`
}

/**
 * `-o` of what containers see. Names that another node has just made must be found: what is not there is not
 * remembered.
 */
export function dataMountOptions({ version, options }: NfsExport): string[] {
  const has = (...keys: string[]) => options.some((option) => keys.includes(option.split('=', 1)[0] ?? ''))
  return [
    versionOption(version),
    'retry=0',
    ...(has('hard', 'soft', 'softerr') ? [] : ['hard']),
    ...(has('lookupcache', 'noac') ? [] : ['lookupcache=positive']),
    ...(has('atime', 'noatime', 'relatime') ? [] : ['noatime']),
    ...options,
  ]
}

/**
 * `-o` of the driver's own view of the same export: always what the server has now, and an error, not a wait, when it
 * does not answer.
 */
export function workMountOptions({ version, options }: NfsExport): string[] {
  const connection = options.filter((option) => connectionKeys.includes(option.split('=', 1)[0] ?? ''))
  const own = [
    'nosharecache',
    'actimeo=0',
    'lookupcache=positive',
    'softerr',
    'timeo=30',
    'retrans=1',
    'noatime',
    'nosuid',
    'nodev',
  ]
  return [versionOption(version), 'retry=0', ...own, ...(version === '3' ? ['nolock'] : []), ...connection]
}
