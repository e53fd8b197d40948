/** The first words of the command line. Each loads its module when it is used, and only then. */

import type { Command, Noun } from './command.ts'

interface NounEntry {
  readonly summary: string
  readonly load: () => Promise<Noun | Command>
}

/** In the order of the help. */
export const nouns: Readonly<Record<string, NounEntry>> = {
  daemon: { summary: 'run the daemon', load: async () => (await import('./commands/daemon.ts')).daemon },
  info: {
    summary: 'the daemon, its drivers, targets and what there is',
    load: async () => (await import('./commands/info.ts')).info,
  },
  doctor: {
    summary: 'what is wrong or at risk, with the remedy',
    load: async () => (await import('./commands/doctor.ts')).doctor,
  },
  volume: { summary: 'volumes', load: async () => (await import('./commands/volume.ts')).volume },
  trash: { summary: 'volumes that were removed', load: async () => (await import('./commands/trash.ts')).trash },
  snapshot: { summary: 'snapshots of volumes', load: async () => (await import('./commands/snapshot.ts')).snapshot },
  target: {
    summary: 'repositories for backups, by name',
    load: async () => (await import('./commands/target.ts')).target,
  },
  backup: {
    summary: 'backups of volumes in repositories',
    load: async () => (await import('./commands/backup.ts')).backup,
  },
  schedule: {
    summary: 'snapshots and backups at certain times',
    load: async () => (await import('./commands/schedule.ts')).schedule,
  },
  operation: { summary: 'work in progress', load: async () => (await import('./commands/operation.ts')).operation },
  completion: {
    summary: 'completion for a shell',
    load: async () => (await import('./commands/completion.ts')).completion,
  },
  version: {
    summary: 'the versions of program and daemon',
    load: async () => (await import('./commands/version.ts')).version,
  },
}
