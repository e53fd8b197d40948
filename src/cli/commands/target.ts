/** `holdfast target`. Secrets are in files on the daemon's node; only their paths are typed, sent and kept. */

import type { PassphraseView, TargetCheck, TargetDetails, TargetView } from '../../server/schemas/target.ts'
import { formatSize } from '../../units.ts'
import { api } from '../client.ts'
import { command, type NestedNoun, type Noun } from '../command.ts'
import { removeEach, showEach } from '../each.ts'
import { formatAge, formatFields, formatMap, formatTable, printable } from '../output.ts'
import { accessOf, targetOptions } from '../store-access.ts'

const nameArgument = { name: 'NAME', complete: 'target' } as const

const add = command({
  summary: 'remember a repository under a name, and make it when there is none',
  description: [
    'URL is s3://BUCKET[@REGION][/PREFIX] or file:///DIRECTORY; a directory is made, a bucket never. Keys and passphrases are',
    'read from files on the node of the daemon, each time they are needed, and kept nowhere else: without the passphrase',
    'nobody can ever read the backups. Without --passphrase-file the repository is not encrypted.',
  ].join('\n'),
  args: [{ name: 'NAME' }, { name: 'URL' }],
  options: targetOptions,
  async run({ args: [name, url], options, output, work }) {
    const made = await work<TargetView>('POST', '/v1/targets', { name, url, access: accessOf(options) })
    output.result(made, () => made.name)
    return 0
  },
})

const ls = command({
  summary: 'list targets',
  args: [],
  options: {},
  async run({ client, output }) {
    const targets = await client.request<TargetView[]>('GET', '/v1/targets')
    const row = ({ name, url, encrypted, createdAt }: TargetView): string[] => [
      name,
      url,
      encrypted ? 'yes' : 'no',
      formatAge(createdAt),
    ]
    output.result(targets, () => formatTable(['NAME', 'URL', 'ENCRYPTED', 'CREATED'], targets.map(row)))
    return 0
  },
})

function accessFields({ access }: TargetView): [string, string][] {
  const fields: [string, string | undefined][] = [
    ['endpoint', access.endpoint],
    ['region', access.region],
    ['access key file', access.accessKeyFile],
    ['secret key file', access.secretKeyFile],
    ['passphrase file', access.passphraseFile],
    ['path style', access.pathStyle ? 'yes' : undefined],
    ['storage class', access.storageClass],
    ['encryption', access.encryption],
    ['KMS key', access.kmsKeyId],
    ['upload limit', access.uploadLimit === undefined ? undefined : `${formatSize(access.uploadLimit)}/s`],
    ['download limit', access.downloadLimit === undefined ? undefined : `${formatSize(access.downloadLimit)}/s`],
  ]
  return fields.filter((field): field is [string, string] => field[1] !== undefined)
}

function show(target: TargetDetails): string {
  const { name, url, encrypted, repositoryId, createdAt, passphrases } = target
  return formatFields([
    ['name', name],
    ['url', url],
    ['encrypted', encrypted ? 'yes' : 'no'],
    ['repository', repositoryId],
    ['created', createdAt],
    ...accessFields(target),
    ...(passphrases ?? []).map(({ id, label }): [string, string] => ['passphrase', `${id} ${label}`]),
  ])
}

const inspect = command({
  summary: 'show everything about targets',
  args: [{ ...nameArgument, variadic: true }],
  options: {},
  run: ({ args: [names], client, output }) =>
    showEach(names, output, (name) => client.request<TargetDetails>('GET', api`/v1/targets/${name}`), show),
})

const rm = command({
  summary: 'forget targets; their repositories stay as they are',
  args: [{ ...nameArgument, variadic: true }],
  options: {},
  run: ({ args: [names], output, work }) =>
    removeEach(names, output, async (name) => {
      await work('DELETE', api`/v1/targets/${name}`)
      return [name]
    }),
})

const check = command({
  summary: 'try what backups need: write, read and delete small objects, and open the repository',
  args: [nameArgument],
  options: {},
  async run({ args: [name], output, work }) {
    const found = await work<TargetCheck>('POST', api`/v1/targets/${name}/check`, {})
    const { store, url, backups } = found
    output.result(found, () =>
      formatFields([
        ['name', found.name],
        ['url', url],
        ['store', store.kind],
        ['write if absent', store.ifAbsent],
        ['listing', store.listing],
        ['details', formatMap(store.details)],
        ['backups', String(backups)],
      ]),
    )
    return 0
  },
})

const addPassphrase = command({
  summary: 'let one more passphrase open the repository, and print its id',
  description: 'The target goes on with the one that it has.',
  args: [nameArgument],
  options: {
    'passphrase-file': {
      type: 'string',
      required: true,
      placeholder: 'FILE',
      help: 'its first line is the new passphrase',
    },
    label: { type: 'string', placeholder: 'TEXT', help: 'to tell it from the others' },
  },
  async run({ args: [name], options: { 'passphrase-file': file, label }, output, work }) {
    const body = { file: process.getBuiltinModule('node:path').resolve(file), label }
    const made = await work<PassphraseView>('POST', api`/v1/targets/${name}/passphrases`, body)
    output.result(made, () => printable(made.id))
    return 0
  },
})

const listPassphrases = command({
  summary: 'list what opens the repository, and what the target uses; not the passphrases themselves',
  args: [nameArgument],
  options: {},
  async run({ args: [name], client, output }) {
    const found = await client.request<PassphraseView[]>('GET', api`/v1/targets/${name}/passphrases`)
    const row = ({ id, label, createdAt, inUse }: PassphraseView): string[] => {
      return [id, label || '-', inUse ? 'yes' : 'no', formatAge(createdAt)]
    }
    output.result(found, () => formatTable(['ID', 'LABEL', 'IN USE', 'CREATED'], found.map(row)))
    return 0
  },
})

const removePassphrase = command({
  summary: 'let a passphrase open the repository no more',
  description:
    'The last one stays, and the one that the target uses. Data that was written is not encrypted anew: who has read the key with it can still read.',
  args: [nameArgument, { name: 'ID' }],
  options: {},
  async run({ args: [name, id], output, work }) {
    await work('DELETE', api`/v1/targets/${name}/passphrases/${id}`)
    output.result({ removed: [id] }, () => id)
    return 0
  },
})

const passphrase: NestedNoun = {
  summary: 'passphrases of the repository of a target',
  verbs: { add: addPassphrase, ls: listPassphrases, rm: removePassphrase },
}

/** The verbs of targets. */
export const target: Noun = { verbs: { add, ls, inspect, rm, check, passphrase } }
