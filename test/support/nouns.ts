/** Nouns for tests that write to the catalog by hand. */

import { randomUUID } from 'node:crypto'
import type { Operation, Snapshot, Volume } from '../../src/model.ts'

/** A live volume of the fake driver. */
export function aVolume(changes: Partial<Volume> = {}): Volume {
  return {
    id: randomUUID(),
    name: 'db',
    driver: 'fake',
    size: null,
    options: {},
    labels: {},
    onRemove: 'trash',
    origin: null,
    hooks: {},
    state: { kind: 'memory' },
    createdAt: '2026-11-23T10:00:00.000Z',
    ...changes,
  }
}

export function aSnapshot(volume: Volume, changes: Partial<Snapshot> = {}): Snapshot {
  return {
    id: randomUUID(),
    volumeId: volume.id,
    name: 's1',
    createdAt: '2026-11-23T11:00:00.000Z',
    labels: {},
    atomic: true,
    size: null,
    used: null,
    state: { kind: 'memory' },
    ...changes,
  }
}

/** An entry of the journal that is open. */
export function anOperation(changes: Partial<Operation> = {}): Operation {
  return {
    id: randomUUID(),
    kind: 'volume.create',
    subject: 'db',
    state: 'running',
    payload: {},
    startedAt: '2026-11-23T10:00:00.000Z',
    finishedAt: null,
    error: null,
    ...changes,
  }
}
