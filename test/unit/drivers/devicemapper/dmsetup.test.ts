/** What dmsetup says when it fails, as an error of Holdfast's: the texts are its own. */

import { expect, test } from 'vitest'
import { dmError } from '../../../../drivers/devicemapper/dmsetup.ts'

const said = (stderr: string) => dmError(['message', 'pool'], { stdout: '', stderr, exitCode: 1 })

test.each([
  ['device-mapper: message ioctl on pool  failed: File exists', 'ALREADY_EXISTS'],
  ['device-mapper: message ioctl on pool  failed: No data available', 'NOT_FOUND'],
  ['device-mapper: reload ioctl on holdfast-db  failed: No data available', 'NOT_FOUND'],
  ['device-mapper: remove ioctl on holdfast-db  failed: No such device or address', 'NOT_FOUND'],
  ['Device does not exist.', 'NOT_FOUND'],
  ['Device holdfast-db not found', 'NOT_FOUND'],
  ['device-mapper: create ioctl on holdfast-db  failed: Device or resource busy', 'IN_USE'],
  ['device-mapper: remove ioctl on holdfast-db  failed: Device or resource busy', 'IN_USE'],
  ['device-mapper: message ioctl on pool  failed: No space left on device', 'NO_SPACE'],
  ['device-mapper: message ioctl on pool  failed: Operation not supported', 'FAILED_PRECONDITION'],
  ['device-mapper: version ioctl on   failed: Permission denied', 'PERMISSION_DENIED'],
  ['device-mapper: reload ioctl on pool  failed: Input/output error', 'INTERNAL'],
])('%s: %s', (text, code) => {
  const error = said(`${text}\nCommand failed.\n`)
  expect(error).toMatchObject({ code, details: { exitCode: 1 } })
  expect(error.message.startsWith(`dmsetup message: ${text}`)).toBe(true)
})

test('a kernel without device-mapper is told of with the remedy, before anything that follows from it', () => {
  const lines = [
    '/dev/mapper/control: open failed: No such device',
    'Failure to communicate with kernel device-mapper driver.',
    'Check that device-mapper is available in the kernel.',
    'Incompatible libdevmapper 1.02.185 (2022-05-18) and kernel driver (unknown version).',
    'Command failed.',
  ]
  const error = said(lines.join('\n'))
  expect(error).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringMatching(/; .*modprobe dm-thin-pool$/) })
})

test('one that says nothing is still an error with words', () => {
  expect(said('Command failed.\n').message).toBe('dmsetup message: ended with code 1')
})
