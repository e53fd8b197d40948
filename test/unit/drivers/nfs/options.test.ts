/** What users may say to the nfs driver, and how it is told to them when they may not. */

import { describe, expect, test } from 'vitest'
import {
  dataMountOptions,
  exportOf,
  hashOf,
  labelOf,
  parseOptions,
  parseSettings,
  workMountOptions,
} from '../../../../drivers/nfs/options.ts'

const spec = (options: Record<string, string>, size: number | null = null) => ({ id: 'i', name: 'v', size, options })
const invalid = (message: RegExp) =>
  expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) })

describe('settings', () => {
  test('have defaults', () => {
    expect(parseSettings({})).toEqual({ server: null, export: null, version: '4.2', options: [] })
  })

  test('are normalized', () => {
    const given = {
      server: 'fe80::1',
      export: '/srv//volumes/',
      version: '3',
      'mount-options': ' nconnect=4, noatime ,',
    }
    expect(parseSettings(given)).toEqual({
      server: '[fe80::1]',
      export: '/srv/volumes',
      version: '3',
      options: ['nconnect=4', 'noatime'],
    })
  })

  test.each([
    [{ server: '-o' }, /'-o' is no value for nfs.server/],
    [{ server: 'a b' }, /host name or an address/],
    [{ export: 'srv' }, /absolute path/],
    [{ export: '/srv/../etc' }, /absolute path/],
    [{ version: '5' }, /give one of 4.2, 4.1, 4.0, 3/],
    [{ 'mount-options': 'nconect=4' }, /'nconect'; did you mean 'nconnect'/],
    [{ 'mount-options': 'vers=3' }, /give the setting nfs.version/],
    [{ 'mount-options': 'timeo=1 -o' }, /is no value of timeo/],
    [{ 'mount-options': 'constructor' }, /unknown option 'constructor'/],
  ])('%j are refused', (given, message) => {
    expect(() => parseSettings(given as Record<string, string>)).toThrow(invalid(message))
  })
})

describe("a volume's options", () => {
  test('name another export', () => {
    const settings = parseSettings({ server: 'nas', export: '/a' })
    const place = exportOf(settings, parseOptions(spec({ export: '/b' })))
    expect(labelOf(place)).toBe('nas:/b')
    expect(hashOf(place)).not.toBe(hashOf(exportOf(settings, parseOptions(spec({})))))
  })

  test('need a server from somewhere', () => {
    expect(() => exportOf(parseSettings({ export: '/a' }), parseOptions(spec({})))).toThrow(
      invalid(/no NFS server is given/),
    )
  })

  test.each([
    [{ access: 'many' }, /multi or single/],
    [{ subdir: '/etc' }, /is no value for subdir/],
    [{ subdir: '../x' }, /is no value for subdir/],
    [{ subdir: 'volumes/db' }, /not Holdfast's own/],
    [{ subdir: '.holdfast/claims' }, /not Holdfast's own/],
    [{ subdir: 'a\nb' }, /is no value for subdir/],
  ])('%j are refused', (options, message) => {
    expect(() => parseOptions(spec(options as Record<string, string>))).toThrow(invalid(message))
  })

  test('have no size that nothing enforces', () => {
    const unsupported = (text: RegExp) =>
      expect.objectContaining({ code: 'NOT_SUPPORTED', message: expect.stringMatching(text) })
    expect(() => parseOptions(spec({}, 1024))).toThrow(unsupported(/access=single/))
    expect(() => parseOptions(spec({ access: 'single', subdir: 'a' }, 1024))).toThrow(unsupported(/subdir=a/))
    expect(parseOptions(spec({ access: 'single' }, 1024)).access).toBe('single')
  })
})

describe('an export is mounted', () => {
  test('for containers as the user says, and so that names of other nodes are found', () => {
    const place = exportOf(parseSettings({ server: 'nas', export: '/a', 'mount-options': 'soft,timeo=50' }), {
      server: null,
      export: null,
    })
    expect(dataMountOptions(place)).toEqual([
      'vers=4.2',
      'retry=0',
      'lookupcache=positive',
      'noatime',
      'soft',
      'timeo=50',
    ])
  })

  test("for the driver's own eyes without what the user said of caches and patience", () => {
    const place = exportOf(
      parseSettings({ server: 'nas', export: '/a', 'mount-options': 'hard,port=2050,acregmax=60' }),
      { server: null, export: null },
    )
    expect(workMountOptions(place)).toEqual(
      expect.arrayContaining(['softerr', 'actimeo=0', 'nosharecache', 'port=2050']),
    )
    expect(workMountOptions(place)).not.toEqual(expect.arrayContaining(['hard']))
    expect(workMountOptions(place)).not.toEqual(expect.arrayContaining(['acregmax=60']))
  })
})
