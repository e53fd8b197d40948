/** Settings: which layer wins, and that every mistake in any layer is named with its place. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Config, loadConfig, settings } from '../../src/config.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-config-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function file(content: unknown): string {
  const path = join(folder, 'daemon.json')
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}

/** The settings with this file, these variables and these flags; without a file, an empty one. */
function load(
  flags: Parameters<typeof loadConfig>[0] = {},
  env: NodeJS.ProcessEnv = {},
  content: unknown = {},
): Config {
  return loadConfig(flags, env, file(content))
}

const refused = (text: string | RegExp) =>
  expect.objectContaining({
    code: 'INVALID_ARGUMENT',
    message: typeof text === 'string' ? expect.stringContaining(text) : expect.stringMatching(text),
  })

test('with nothing set, the defaults are in force', () => {
  expect(load()).toEqual({
    root: '/var/lib/holdfast',
    socket: '/run/holdfast/holdfast.sock',
    pluginSocket: '/run/docker/plugins/holdfast.sock',
    dockerSocket: '/var/run/docker.sock',
    drivers: ['vfs'],
    defaultDriver: 'vfs',
    driverOpts: {},
    trashKeepMs: 86_400_000,
    hostHooks: null,
    logLevel: 'info',
    logFormat: 'json',
  })
})

describe('a flag wins over a variable, and that over the file', () => {
  const values: Readonly<Record<string, readonly [unknown, string, string, keyof Config, readonly unknown[]]>> = {
    root: ['/file', '/env', '/flag', 'root', ['/file', '/env', '/flag']],
    socket: ['/f.sock', '/e.sock', '/g.sock', 'socket', ['/f.sock', '/e.sock', '/g.sock']],
    'plugin-socket': ['/f.sock', '/e.sock', '/g.sock', 'pluginSocket', ['/f.sock', '/e.sock', '/g.sock']],
    'docker-socket': ['/f.sock', '/e.sock', '/g.sock', 'dockerSocket', ['/f.sock', '/e.sock', '/g.sock']],
    'trash-keep': ['1h', '2h', '3h', 'trashKeepMs', [3_600_000, 7_200_000, 10_800_000]],
    'host-hooks': ['/file', '/env', '/flag', 'hostHooks', ['/file', '/env', '/flag']],
    'log-level': ['debug', 'warn', 'error', 'logLevel', ['debug', 'warn', 'error']],
    'log-format': ['pretty', 'json', 'pretty', 'logFormat', ['pretty', 'json', 'pretty']],
  }

  test.each(Object.entries(values))('%s', (key, [inFile, inEnv, inFlag, field, expected]) => {
    const variable = { [`HOLDFAST_${key.toUpperCase().replaceAll('-', '_')}`]: inEnv }
    expect(load({}, {}, { [key]: inFile })[field]).toEqual(expected[0])
    expect(load({}, variable, { [key]: inFile })[field]).toEqual(expected[1])
    expect(load({ [key]: inFlag }, variable, { [key]: inFile })[field]).toEqual(expected[2])
  })

  test('driver, default-driver and driver-opt: a layer replaces the whole list', () => {
    const inFile = {
      driver: ['vfs', 'nfs'],
      'default-driver': 'nfs',
      'driver-opt': { vfs: { path: '/f' }, nfs: { server: 'h' } },
    }
    expect(load({}, {}, inFile)).toMatchObject({
      drivers: ['vfs', 'nfs'],
      defaultDriver: 'nfs',
      driverOpts: { vfs: { path: '/f' }, nfs: { server: 'h' } },
    })
    const env = {
      HOLDFAST_DRIVER: 'nfs ebs',
      HOLDFAST_DEFAULT_DRIVER: 'ebs',
      HOLDFAST_DRIVER_OPT: 'nfs.server=a  ebs.region=b',
    }
    const fromEnv = load({}, env, inFile)
    expect(fromEnv).toMatchObject({ drivers: ['nfs', 'ebs'], defaultDriver: 'ebs' })
    expect(fromEnv.driverOpts).toEqual({ nfs: { server: 'a' }, ebs: { region: 'b' } })
    const flags = { driver: ['vfs'], 'default-driver': 'vfs', 'driver-opt': ['vfs.path=/g'] }
    expect(load(flags, env, inFile)).toMatchObject({ drivers: ['vfs'], driverOpts: { vfs: { path: '/g' } } })
  })

  test('every setting there is was tried', () => {
    const tried = [...Object.keys(values), 'driver', 'default-driver', 'driver-opt']
    expect(settings.map(({ key }) => key).sort()).toEqual(tried.sort())
  })
})

describe('an unknown key is refused with the nearest one', () => {
  test('in the file', () => {
    expect(() => load({}, {}, { 'trash-kep': '1h' })).toThrow(
      refused(/settings file .*daemon.json: .*'trash-kep'.*'trash-keep'\?/),
    )
  })
  test('in the environment', () => {
    expect(() => load({}, { HOLDFAST_TRASH_KEPT: '1h' })).toThrow(refused(/HOLDFAST_TRASH_KEPT: .*'trash-keep'\?/))
  })
  test('as a flag', () => {
    expect(() => load({ scoket: '/s' })).toThrow(refused(/flag: .*'scoket'.*'socket'\?/))
  })
  test('far from every key: all are listed', () => {
    expect(() => load({}, {}, { zzzzzzzz: '' })).toThrow(refused('known are root, socket'))
  })
  test('variables of others, and those of the tests, are not looked at', () => {
    expect(load({}, { HOLDFASTER: 'x', PATH: '/bin', HOLDFAST_TEST_WORK: '/w', HOLDFAST_LAB: '1' })).toEqual(load())
  })
})

describe('a settings file that is no settings file', () => {
  test.each([
    ['{', /JSON/],
    ['', /JSON/],
    ['[]', 'must hold a JSON object'],
    ['null', 'must hold a JSON object'],
    ['"x"', 'must hold a JSON object'],
  ])('%j', (text, message) => {
    expect(() => load({}, {}, text)).toThrow(refused(message))
  })

  test('that is not there is an error when it was asked for', () => {
    expect(() => loadConfig({}, {}, join(folder, 'missing.json'))).toThrow(refused(/missing.json: ENOENT/))
  })

  test.each([
    [{ root: 7 }, "'root' must be a string"],
    [{ root: null }, "'root' must be a string"],
    [{ 'log-level': ['info'] }, "'log-level' must be a string"],
    [{ driver: 'vfs' }, "'driver' must be a list of strings"],
    [{ driver: ['vfs', 1] }, "'driver' must be a list of strings"],
    [{ 'driver-opt': ['vfs.path=/x'] }, "'driver-opt' must be an object"],
    [{ 'driver-opt': null }, "'driver-opt' must be an object"],
    [{ 'driver-opt': { vfs: '/x' } }, "'driver-opt' must be an object"],
    [{ 'driver-opt': { vfs: { path: 1 } } }, "'driver-opt' must be an object"],
  ])('with a value of the wrong type: %j', (content, message) => {
    expect(() => load({}, {}, content)).toThrow(refused(message))
  })
})

describe('a value that cannot be is refused, whichever layer it is from', () => {
  test.each([
    ['root', 'relative/dir', 'not an absolute path'],
    ['root', '', 'not an absolute path'],
    ['root', '/a\0b', 'not an absolute path'],
    ['socket', 'x.sock', 'not an absolute path'],
    ['plugin-socket', './x.sock', 'not an absolute path'],
    ['docker-socket', 'tcp://host', 'not an absolute path'],
    ['trash-keep', 'soon', 'not a duration'],
    ['trash-keep', '', 'not a duration'],
    ['trash-keep', '-1h', 'not a duration'],
    ['log-level', 'loud', 'not one of debug, info, warn, error, silent'],
    ['log-format', 'xml', 'not one of json, pretty'],
    ['default-driver', 'nfs', 'not among the drivers to start (vfs)'],
  ])('%s = %j', (key, value, message) => {
    const variable = `HOLDFAST_${key.toUpperCase().replaceAll('-', '_')}`
    expect(() => load({ [key]: value })).toThrow(refused(message))
    expect(() => load({}, { [variable]: value })).toThrow(refused(message))
    expect(() => load({}, {}, { [key]: value })).toThrow(refused(message))
  })

  test('no driver at all', () => {
    expect(() => load({}, { HOLDFAST_DRIVER: '' })).toThrow(refused('not among the drivers'))
    expect(() => load({ driver: [] })).toThrow(refused('not among the drivers'))
  })
})

describe('driver options', () => {
  test('a value may hold anything, also = and newlines; the last of one key wins', () => {
    const flags = { 'driver-opt': ['vfs.path=/a=b', 'vfs.fs=', 'vfs.path=/c\nd', 'nfs.mount-options=ro,soft'] }
    expect(load(flags).driverOpts).toEqual({ vfs: { path: '/c\nd', fs: '' }, nfs: { 'mount-options': 'ro,soft' } })
  })

  test.each(['path=/x', 'vfs.path', 'vfs.=/x', '.path=/x', 'VFS.path=/x', 'vfs.Path=/x', ''])(
    '%j is refused',
    (text) => {
      expect(() => load({ 'driver-opt': [text] })).toThrow(refused('NAME.KEY=VALUE'))
    },
  )

  test('names that every object has are only names', () => {
    const { driverOpts } = load({ 'driver-opt': ['constructor.tostring=x'] })
    expect(driverOpts).toEqual({ constructor: { tostring: 'x' } })
  })
})

test('paths are normal, and a driver named twice is started once', () => {
  const config = load({ root: '/srv//x/../y', driver: ['vfs', 'nfs', 'vfs'] })
  expect(config).toMatchObject({ root: '/srv/y', drivers: ['vfs', 'nfs'], defaultDriver: 'vfs' })
})
