/** The error table is the one that users and programs have been told, and foreign errors find their place in it. */

import { expect, test } from 'vitest'
import { AppError, errorTable, fromErrno, isAppError, toAppError } from '../../src/errors.ts'

test('the table is the documented one', () => {
  const rows = Object.entries(errorTable).map(([code, { status, exit }]) => `${code} ${status}/${exit}`)
  expect(rows.sort()).toEqual(
    [
      'INVALID_ARGUMENT 400/2',
      'PERMISSION_DENIED 403/4',
      'NOT_FOUND 404/3',
      'ALREADY_EXISTS 409/5',
      'IN_USE 409/6',
      'ABORTED 409/6',
      'FAILED_PRECONDITION 412/7',
      'CANCELLED 499/130',
      'NOT_SUPPORTED 501/8',
      'UNAVAILABLE 503/9',
      'TIMEOUT 504/9',
      'NO_SPACE 507/10',
      'CORRUPT 500/11',
      'INTERNAL 500/1',
    ].sort(),
  )
})

test('what may pass by itself is retryable, and nothing else', () => {
  const retryable = Object.entries(errorTable).flatMap(([code, row]) => (row.retryable ? [code] : []))
  expect(retryable.sort()).toEqual(['ABORTED', 'NO_SPACE', 'TIMEOUT', 'UNAVAILABLE'])
})

test.each([
  ['ENOSPC', 'NO_SPACE'],
  ['EDQUOT', 'NO_SPACE'],
  ['EACCES', 'PERMISSION_DENIED'],
  ['EROFS', 'FAILED_PRECONDITION'],
  ['EBUSY', 'IN_USE'],
  ['ENOENT', 'NOT_FOUND'],
  ['EEXIST', 'ALREADY_EXISTS'],
  ['EIO', 'INTERNAL'],
])('%s becomes %s, with what was being done', (name, code) => {
  const cause = Object.assign(new Error(`${name}: some text`), { code: name })
  const error = fromErrno(cause, 'create /srv/x')
  expect(error).toMatchObject({ code, message: `create /srv/x: ${name}: some text`, cause })
})

test('an AppError passes unchanged; an abort is a cancellation; the rest is INTERNAL', () => {
  const error = new AppError('IN_USE', 'volume db is mounted', { details: { by: 2 } })
  expect(fromErrno(error, 'x')).toBe(error)
  expect(toAppError(error)).toBe(error)
  expect(toAppError(new DOMException('stop', 'AbortError'))).toMatchObject({ code: 'CANCELLED' })
  expect(toAppError(Object.assign(new Error('full'), { code: 'ENOSPC' }))).toMatchObject({
    code: 'NO_SPACE',
    message: 'full',
  })
  expect(toAppError(Object.assign(new Error('gone'), { code: 'ENOENT' }))).toMatchObject({ code: 'INTERNAL' })
  expect(toAppError('text')).toMatchObject({ code: 'INTERNAL', message: 'text' })
  expect(toAppError(undefined)).toMatchObject({ code: 'INTERNAL' })
})

test('an error is recognised by its code', () => {
  const error: unknown = new AppError('TIMEOUT', 'late')
  expect(isAppError(error)).toBe(true)
  expect(isAppError(error, 'NOT_FOUND', 'TIMEOUT')).toBe(true)
  expect(isAppError(error, 'NOT_FOUND')).toBe(false)
  expect(isAppError(Object.assign(new Error('x'), { code: 'TIMEOUT' }), 'TIMEOUT')).toBe(false)
})
