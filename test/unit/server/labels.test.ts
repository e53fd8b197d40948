/** Labels that users may not give. */

import { expect, test } from 'vitest'
import { userLabels } from '../../../src/server/labels.ts'

test('labels of Holdfast itself are refused by name, all others pass', () => {
  expect(() => userLabels({ env: 'prod', 'holdfast.backup': 'x' })).toThrow(/label 'holdfast.backup' begins with/)
  expect(userLabels({ env: 'prod', holdfast: 'yes' })).toEqual({ env: 'prod', holdfast: 'yes' })
  expect(userLabels(undefined)).toBeUndefined()
})
