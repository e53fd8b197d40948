/**
 * What goes on in a machine while it is crashed again and again, and whether the next life knows of all of it. Runs in a machine of
 * the lab, beside the daemon: `node crash-actor.ts work ROUND LOG TARGET` does everything at the same time, for ever, and notes in
 * LOG (which outlives the machine) what it begins and what was reported done; `verify ROUND LOG TARGET` prints what is not as the
 * notes say, as a JSON list.
 */

import { createHash, randomBytes } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { adminSocket, call } from '../support/admin-api.ts'

const [, , act, round = '0', log = '', backups = ''] = process.argv

type Kind = 'write' | 'create' | 'snapshot' | 'revert' | 'backup' | 'restore'

/** One line of the log. */
interface Note {
  readonly kind: Kind
  readonly event: 'begin' | 'done' | 'removing' | 'removed'
  /** Of the volume or snapshot. */
  readonly name: string
  /** What its content says. */
  readonly content?: string
  /** Of a backup. */
  readonly url?: string
}

const api = <T>(method: string, path: string, body?: object): Promise<T> => call(adminSocket, method, path, body)
const note = (it: Note): void => appendFileSync(log, `${JSON.stringify(it)}\n`)
const notes = (): Note[] =>
  existsSync(log)
    ? readFileSync(log, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Note)
    : []
/** A target's name. */
const target = { at: backups }

async function mount(path: string): Promise<string> {
  return (await api<{ mountpoint: string }>('POST', `${path}/mount`, {})).mountpoint
}

/** Calls `use` with the directory of a volume, or as `VOLUME/snapshots/SNAPSHOT` of a snapshot. */
async function inside<T>(name: string, use: (directory: string) => T | Promise<T>): Promise<T> {
  const path = `/v1/volumes/${name}`
  const directory = await mount(path)
  try {
    return await use(directory)
  } finally {
    await api('POST', `${path}/umount`)
  }
}

function put(directory: string, content: string): void {
  const file = openSync(join(directory, 'content'), 'w')
  writeFileSync(file, content)
  fsyncSync(file)
  closeSync(file)
}

const read = (directory: string): string => readFileSync(join(directory, 'content'), 'utf8')
const create = (name: string): Promise<unknown> => api('POST', '/v1/volumes', { name, size: '64M' })
const remove = (name: string): Promise<unknown> => api('DELETE', `/v1/volumes/${name}?purge=true`)
const snap = (volume: string, name: string): Promise<unknown> =>
  api('POST', `/v1/volumes/${volume}/snapshots`, { name })

/** A removal that is begun is noted before, and after. */
async function removing(kind: Kind, name: string, path: string): Promise<void> {
  note({ kind, event: 'removing', name })
  await api('DELETE', path)
  note({ kind, event: 'removed', name })
}

// --- work ---

async function writing(): Promise<void> {
  await create('written')
  const path = join(await mount('/v1/volumes/written'), 'lines')
  const file = openSync(path, 'a')
  // What was written and not noted any more is there, too.
  for (let line = readFileSync(path, 'utf8').split('\n').length - 1; ; line++) {
    appendFileSync(file, `${line}\n`)
    fsyncSync(file)
    note({ kind: 'write', event: 'done', name: String(line) })
    await delay(30)
  }
}

/** How many lines were reported written in all lives. */
function linesSaid(): number {
  const last = notes().findLast(({ kind }) => kind === 'write')
  return last ? Number(last.name) + 1 : 0
}

async function creating(): Promise<void> {
  for (let number = 0; ; number++) {
    const name = `made-${round}-${number}`
    note({ kind: 'create', event: 'begin', name })
    await create(name)
    note({ kind: 'create', event: 'done', name })
    if (number % 3 === 2) await removing('create', name, `/v1/volumes/${name}?purge=true`)
    await delay(1000) // There is one processor for all.
  }
}

async function snapshotting(): Promise<void> {
  await create('snapped')
  const directory = await mount('/v1/volumes/snapped')
  for (let number = 0; ; number++) {
    const name = `s-${round}-${number}`
    put(directory, name)
    note({ kind: 'snapshot', event: 'begin', name })
    await snap('snapped', name)
    note({ kind: 'snapshot', event: 'done', name })
    const old = `s-${round}-${number - 2}`
    await delay(1000)
    if (number % 4 === 3) await removing('snapshot', old, `/v1/volumes/snapped/snapshots/${old}`)
  }
}

async function reverting(): Promise<void> {
  for (let number = 0; ; number++) {
    const content = 'ab'[number % 2] as string
    note({ kind: 'revert', event: 'begin', name: 'reverted', content })
    await api('POST', `/v1/volumes/reverted/snapshots/${content}/revert`)
    note({ kind: 'revert', event: 'done', name: 'reverted', content })
    await delay(1000)
  }
}

async function backingUp(): Promise<void> {
  await create('saved')
  const directory = await mount('/v1/volumes/saved')
  writeFileSync(join(directory, 'ballast'), randomBytes(2 ** 22))
  for (let number = 0; ; number++) {
    const content = `${round}-${number}`
    put(directory, content)
    note({ kind: 'backup', event: 'begin', name: 'saved', content })
    const { url } = await api<{ url: string }>('POST', '/v1/backups', { volume: 'saved', to: target })
    note({ kind: 'backup', event: 'done', name: 'saved', content, url })
  }
}

/** The backup that is restored: of what, and by which digest it is known. */
const original = () => notes().find(({ kind, event }) => kind === 'restore' && event === 'begin')

/** Once: what later lives restore, and the volume that they revert. */
async function preparing(): Promise<void> {
  if (notes().length > 0) return
  await create('reverted')
  for (const content of ['a', 'b']) {
    await inside('reverted', (directory) => put(directory, content))
    await snap('reverted', content)
  }
  await create('original')
  const content = await inside('original', (directory) => {
    writeFileSync(join(directory, 'content'), randomBytes(6 * 2 ** 20))
    return digest(directory)
  })
  const { url } = await api<{ url: string }>('POST', '/v1/backups', { volume: 'original', to: target })
  note({ kind: 'restore', event: 'begin', name: 'original', content, url })
  note({ kind: 'restore', event: 'done', name: 'original' })
}

async function restoring(): Promise<void> {
  for (let number = 0; ; number++) {
    const name = `restored-${round}-${number}`
    note({ kind: 'restore', event: 'begin', name })
    await api('POST', '/v1/backups/restore', { from: { backup: original()?.url }, to: name })
    note({ kind: 'restore', event: 'done', name })
    if (number % 2 === 1) await removing('restore', name, `/v1/volumes/${name}?purge=true`)
  }
}

function digest(directory: string): string {
  return createHash('sha256')
    .update(readFileSync(join(directory, 'content')))
    .digest('hex')
}

// --- verify ---

const problems: string[] = []
const expect = (right: boolean, problem: string): void => void (right || problems.push(problem))

/** The last that was noted of each name, of the kinds that make things with names. */
function lastNotes(...kinds: Kind[]): Map<string, Note['event']> {
  const last = new Map<string, Note['event']>()
  for (const { kind, name, event } of notes()) if (kinds.includes(kind)) last.set(name, event)
  return last
}

/** What was reported done is there, what was reported removed is not, and nothing is there that nobody asked for. */
function compare(what: string, last: ReadonlyMap<string, Note['event']>, there: readonly string[]): void {
  for (const [name, event] of last) {
    if (event === 'done') expect(there.includes(name), `${what} ${name} was reported done and is gone`)
    if (event === 'removed') expect(!there.includes(name), `${what} ${name} was reported removed and is there`)
  }
  for (const name of there) expect(last.has(name), `${what} ${name} was never asked for`)
}

async function verifyVolumes(): Promise<void> {
  const fixed = ['written', 'snapped', 'reverted', 'saved', 'original']
  const there = (await api<{ name: string }[]>('GET', '/v1/volumes')).map(({ name }) => name)
  const last = lastNotes('create', 'restore')
  compare(
    'volume',
    last,
    there.filter((name) => !fixed.includes(name) || last.has(name)),
  )
  for (const name of there.filter((it) => /^(made|restored)-/.test(it))) {
    if (name.startsWith('made-'))
      await inside(name, (directory) => expect(readdirSync(directory).length === 0, `volume ${name} is not empty`))
    else {
      const found = await inside(name, digest)
      expect(found === original()?.content, `volume ${name} has not the content of its backup`)
    }
    await remove(name)
    const kind = name.startsWith('made-') ? 'create' : 'restore'
    note({ kind, event: 'removed', name })
  }
}

async function verifyWriting(): Promise<void> {
  const said = linesSaid()
  if (said === 0) return
  const lines = await inside('written', (directory) => readFileSync(join(directory, 'lines'), 'utf8').split('\n'))
  for (let line = 0; line < said; line++) expect(lines[line] === String(line), `line ${line} reads '${lines[line]}'`)
}

async function verifySnapshots(): Promise<void> {
  const last = lastNotes('snapshot')
  if (last.size === 0) return
  const there = (await api<{ name: string }[]>('GET', '/v1/snapshots?volume=snapped')).map(({ name }) => name)
  compare('snapshot', last, there)
  for (const name of there.slice(-3)) {
    const found = await inside(`snapped/snapshots/${name}`, read)
    expect(found === name, `snapshot ${name} reads '${found}'`)
  }
}

async function verifyRevert(): Promise<void> {
  const mine = notes().filter(({ kind }) => kind === 'revert')
  const [last, before] = [mine.at(-1), mine.at(-2)]
  if (!last) return
  const possible = last.event === 'done' ? [last.content] : [last.content, before?.content ?? 'b']
  const found = await inside('reverted', read)
  expect(possible.includes(found), `volume reverted reads '${found}', not one of ${possible}`)
}

async function verifyBackups(): Promise<void> {
  const done = notes().filter(({ kind, url }) => kind === 'backup' && url)
  const listed = await api<{ url: string }[]>('POST', '/v1/backups/list', { ...target, volume: 'saved' })
  for (const { url } of done)
    expect(
      listed.some((it) => it.url === url),
      `backup ${url} is not listed`,
    )
  const last = done.at(-1)
  if (!last) return
  await api('POST', '/v1/backups/restore', { from: { backup: last.url }, to: 'look' })
  const found = await inside('look', read)
  expect(found === last.content, `the last backup reads '${found}', not '${last.content}'`)
  await remove('look')
}

if (act === 'work') {
  await preparing()
  await Promise.all([writing(), creating(), snapshotting(), reverting(), backingUp(), restoring()])
} else {
  for (const check of [verifyVolumes, verifyWriting, verifySnapshots, verifyRevert, verifyBackups]) {
    await check().catch((error: Error) => problems.push(`${check.name}: ${error.message}`))
  }
  console.log(JSON.stringify(problems))
}
