import { describe, expect, it } from 'vitest'
import { addCreateOption, parseCreateOptions } from '../../../src/server/create-options.ts'

describe('parseCreateOptions', () => {
  it('sorts universal keys, labels and the options of the driver', () => {
    const opts = {
      driver: 'vfs',
      size: '1G',
      'on-remove': 'delete',
      'from-snapshot': 'a@s',
      'from-backup': 'nas/1',
      target: 'nas',
      'pre-snapshot': 'sync',
      'post-snapshot': 'true',
      'hook-container': 'c',
      'hook-timeout': '5s',
      'label.env': 'x',
      uid: '7',
    }
    expect(parseCreateOptions('db', opts)).toEqual({
      name: 'db',
      driver: 'vfs',
      size: '1G',
      onRemove: 'delete',
      fromSnapshot: 'a@s',
      fromBackup: 'nas/1',
      target: 'nas',
      preSnapshot: 'sync',
      postSnapshot: 'true',
      hookContainer: 'c',
      hookTimeout: '5s',
      labels: { env: 'x' },
      options: { uid: '7' },
    })
  })

  it('leaves out what was not given', () => {
    expect(Object.keys(parseCreateOptions('db', {})).sort()).toEqual(['labels', 'name', 'options'])
  })

  it('passes keys of the prototype on as the unknown options they are', () => {
    const request = parseCreateOptions('db', { constructor: 'x', toString: 'y' })
    expect(Object.keys(request.options ?? {})).toEqual(['constructor', 'toString'])
  })

  it('refuses a label without a key', () => {
    expect(() => parseCreateOptions('db', { 'label.': 'x' })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    )
  })
})

describe('addCreateOption', () => {
  it('takes the same value twice and refuses another one', () => {
    const opts = new Map<string, string>()
    addCreateOption(opts, 'size', '1G')
    addCreateOption(opts, 'size', '1G')
    expect([...opts]).toEqual([['size', '1G']])
    expect(() => addCreateOption(opts, 'size', '2G')).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining("'1G'") }),
    )
  })
})
