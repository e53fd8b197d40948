/**
 * The daemon dies at each step of each kind of operation. Afterwards the lists, the disk and the kernel agree, what was there
 * before is there, and the same call succeeds.
 */

import { afterAll, beforeAll, describe, test } from 'vitest'
import { crashCases, dieAt, type Flavour } from '../support/crash-cases.ts'
import { type FaultBed, openFaultBed } from '../support/fault-bed.ts'

/** The two ways in which vfs keeps a volume where the file system has no quota. */
const flavours: readonly Flavour[] = [{ name: 'directory' }, { name: 'image', size: '32M' }]

let bed: FaultBed
beforeAll(async () => {
  bed = await openFaultBed()
  await bed.api('POST', '/v1/volumes', { name: 'bystander' })
  await bed.write('bystander', 'precious')
})
afterAll(() => bed?.[Symbol.asyncDispose]())

describe.each(crashCases(() => bed))('$kind', (it) => {
  const places = flavours
    .filter(({ size }) => size !== undefined || !it.sizedOnly)
    .flatMap((flavour) => ['journalled', 'driven', 'committed'].map((phase) => ({ flavour, phase })))

  test.each(places)('of a volume that is a $flavour.name, at the phase $phase', async ({ flavour, phase }) => {
    await dieAt(bed, it, flavour, phase)
  })
})
