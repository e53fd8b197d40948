/** From a create request to a plan, and what of it an existing volume does not fulfil. */

import { describe, expect, test } from 'vitest'
import { AppError } from '../../../../src/errors.ts'
import type { CreateVolumeRequest } from '../../../../src/services/volumes/contract.ts'
import { type CreatePlan, differences, originOf, planCreate } from '../../../../src/services/volumes/create-plan.ts'
import { fakeDriver } from '../../../support/fake-driver.ts'
import { aVolume } from '../../../support/nouns.ts'

const drivers = [fakeDriver(), fakeDriver({ name: 'other' })]

function plan(request: Partial<CreateVolumeRequest> = {}): CreatePlan {
  return planCreate(
    { name: 'db', ...request },
    'fake',
    (name) => {
      const driver = drivers.find((it) => it.name === name)
      if (driver) return driver
      throw new AppError('INVALID_ARGUMENT', `driver '${name}' is not started on this node`)
    },
    () => 'other',
  )
}

test('what is not asked for stays open', () => {
  expect(plan()).toEqual({
    name: 'db',
    driver: 'fake',
    driverAsked: false,
    size: undefined,
    onRemove: undefined,
    source: undefined,
    backup: undefined,
    hooks: {},
    labels: {},
    options: {},
  })
})

test('what is asked for is parsed', () => {
  const asked = plan({
    driver: 'other',
    size: '1G',
    onRemove: 'retain',
    labels: { a: 'b' },
    options: { colour: 'red' },
  })
  expect(asked).toMatchObject({
    driver: 'other',
    driverAsked: true,
    size: 2 ** 30,
    onRemove: 'retain',
    options: { colour: 'red' },
  })
})

test('a clone is made by the driver of its snapshot', () => {
  const asked = plan({ fromSnapshot: 'web@s1' })
  expect(asked).toMatchObject({ driver: 'other', driverAsked: false, source: { volume: 'web', snapshot: 's1' } })
  expect([originOf(asked), originOf(plan())]).toEqual(['web@s1', null])
})

test.each([
  [{ name: '../x' }, 'not a volume name'],
  [{ size: 'big' }, 'not a size'],
  [{ onRemove: 'burn' }, "on-remove 'burn' is not one of trash, delete, retain"],
  [{ onRemove: '' }, 'not one of'],
  [{ fromSnapshot: 'web' }, 'VOLUME@SNAPSHOT'],
  [{ driver: 'nfs' }, "driver 'nfs' is not started"],
  [{ options: { colou: 'red' } }, "driver fake has no option 'colou'; did you mean 'colour'?"],
  [{ options: { 'on-remov': 'trash' } }, "did you mean 'on-remove'?"],
  [{ options: { toString: '' } }, "no option 'toString'"],
  [{ options: { '': '' } }, "no option ''"],
])('%j is refused', (request, message) => {
  expect(() => plan(request)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) }),
  )
})

describe('an existing volume', () => {
  const volume = aVolume({ size: 2 ** 30, options: { colour: 'red' }, labels: { env: 'prod' }, onRemove: 'retain' })

  test.each([
    [{}],
    [{ size: '1024M', onRemove: 'retain', options: { colour: 'red' }, labels: { env: 'prod' }, driver: 'fake' }],
  ])('fulfils %j', (request) => expect(differences(plan(request), volume)).toEqual([]))

  test.each([
    [{ driver: 'other' }, 'driver is fake, asked for other'],
    [{ size: '2G' }, 'size is 1G, asked for 2G'],
    [{ onRemove: 'delete' }, 'on-remove is retain, asked for delete'],
    [{ options: { colour: 'blue' } }, 'colour is red, asked for blue'],
    [{ options: { adopt: '/x' } }, 'adopt is not set, asked for /x'],
    [{ labels: { env: 'dev' } }, 'label env is prod, asked for dev'],
    [{ labels: { tier: '1' } }, 'label tier is not set, asked for 1'],
    [{ fromSnapshot: 'web@s1' }, 'from-snapshot is not set, asked for web@s1'],
  ])('does not fulfil %j', (request, text) => expect(differences(plan(request), volume)).toEqual([text]))
})
