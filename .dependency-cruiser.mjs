/**
 * Who may import whom, as ARCHITECTURE.md draws it. Each room has a list of what it may reach; whatever is not on the
 * list is an error, so a new room needs a line here.
 */

/** Words of the whole project: they import nothing of ours but each other. */
const words = ['^src/(model|errors|units|version)\\.ts$', '^package\\.json$']

/** A room may import itself, the words, and what `reach` lists, besides packages that `forbiddenPackages` does not name. */
function room(name, path, reach, forbiddenPackages = []) {
  return [
    {
      name: `${name}-reaches-too-far`,
      severity: 'error',
      from: { path },
      to: { path: '^(src|drivers|plugin|package\\.json)', pathNot: [path, ...words, ...reach] },
    },
    ...(forbiddenPackages.length === 0
      ? []
      : [
          {
            name: `${name}-uses-a-foreign-package`,
            severity: 'error',
            from: { path },
            to: { path: forbiddenPackages.map((it) => `^node_modules/${it}(/|$)`) },
          },
        ]),
  ]
}

const http = ['fastify', '@fastify']
const aws = ['@aws-sdk', '@smithy']
const driver = '^src/driver\\.ts$'
const system = '^src/system/'
/** Services look at the system and mount; programs are run for drivers, or by system/ itself. */
const systemWithoutPrograms = '^src/system/(?!exec)'
/** The daemon's side of repository work, and where a repository is. */
const engine = '^src/engine/(engine|place)\\.ts$'
/** What a user's retention rules, and URLs of stores, mean; pure. */
const retention = '^src/repository/retention\\.ts$'
const storeUrls = '^src/objectstore/(store-url|objectstore)\\.ts$'
/** Memory, and the way of pages to a disk. */
const memory = '^src/system/(release|direct-io|page-memory|page-writer)\\.ts$'
const locks = '^src/locks\\.ts$'
/** What both doors accept in a volume's options. */
const createOptions = '^src/server/create-options\\.ts$'
const schemas = '^src/server/schemas(\\.ts|/)'

/** Services know the contracts and the catalog, no door, and not how a driver works. */
function services(name, path, reach) {
  const rooms = ['^src/services/', '^src/(engine|repository|objectstore)/', '^src/catalog/']
  const files = [driver, locks, '^src/config\\.ts$', '^drivers/index\\.ts$']
  return room(name, path, [...rooms, ...files, ...reach], [...http, ...aws])
}

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    {
      name: 'words-import-nothing',
      severity: 'error',
      from: { path: words },
      to: { path: '^(src|drivers|plugin)/', pathNot: words },
    },
    ...room('driver-contract', driver, []),
    ...room('config', '^src/config\\.ts$', ['^drivers/index\\.ts$', driver]),
    ...room('locks', locks, []),
    ...room('system', system, [], [...http, ...aws]),
    ...room('catalog', '^src/catalog/', []),
    ...room('objectstore', '^src/objectstore/', [memory]),
    ...room('repository', '^src/repository/', ['^src/objectstore/objectstore\\.ts$', memory], http),
    ...room('engine', '^src/engine/', ['^src/repository/', '^src/objectstore/', system, driver], [...http, ...aws]),
    {
      name: 'the-daemon-loads-no-engine',
      comment: "Repository work, and what it needs, is loaded by a job's process only; its types are known everywhere.",
      severity: 'error',
      from: {
        path: '^(src|drivers|plugin)/',
        pathNot: '^src/(repository|objectstore|engine)/(?!(engine|known-keys)\\.ts$)',
      },
      to: {
        path: '^src/(repository|objectstore|engine)/',
        pathNot: [engine, retention, storeUrls, '^src/engine/known-keys\\.ts$'],
        dependencyTypesNot: ['type-only'],
      },
    },
    ...services('services', '^src/services/', [systemWithoutPrograms]),
    ...room('server', '^src/server/', ['^src/services/'], [...aws]),
    ...room('plugin', '^plugin/', ['^src/services/', schemas, createOptions], [...aws]),
    ...room('driver-list', '^drivers/index\\.ts$', [driver, '^drivers/([^/]+)/[^/]+\\.ts$']),
    {
      name: 'drivers-reach-too-far',
      comment:
        'A driver knows the contract, the system and the words; nfs may build on vfs, no other driver on another.',
      severity: 'error',
      from: { path: '^drivers/([^/]+)/', pathNot: '^drivers/nfs/' },
      to: { path: '^(src|drivers|plugin)/', pathNot: [...words, driver, system, '^drivers/$1/'] },
    },
    ...room('nfs', '^drivers/nfs/', ['^drivers/vfs/', driver, system]),
    {
      name: 'cli-reaches-too-far',
      comment: 'The CLI talks to the socket. `holdfast daemon` alone starts the daemon, in the same process.',
      severity: 'error',
      from: { path: '^src/cli/' },
      to: {
        path: '^(src|drivers|plugin)/',
        pathNot: ['^src/cli/', ...words, schemas, createOptions, '^src/config\\.ts$', '^src/daemon\\.ts$'],
      },
    },
    {
      name: 'only-cli-daemon-starts-the-daemon',
      severity: 'error',
      from: { path: '^src/cli/', pathNot: '^src/cli/commands/daemon\\.ts$' },
      to: { path: '^src/daemon\\.ts$' },
    },
    {
      name: 'nobody-imports-tests',
      severity: 'error',
      from: { path: '^(src|drivers|plugin)/' },
      to: { path: '^(test|scripts)/' },
    },
    {
      name: 'no-circles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only', 'dynamic-import'] } },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'declared-packages-only',
      severity: 'error',
      from: { path: '^(src|drivers|plugin)/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'only-exec-spawns',
      severity: 'error',
      from: { path: '^(src|drivers|plugin)/', pathNot: '^src/system/exec\\.ts$' },
      to: { path: ['^(node:)?child_process$', '^node_modules/execa/'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
}
