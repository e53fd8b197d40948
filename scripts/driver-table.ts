/**
 * Writes README's table of drivers, and of their options, from the drivers themselves: `node scripts/driver-table.ts`.
 * With `--check` it writes nothing and fails when the README says something else.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { driverModules } from '../drivers/index.ts'
import type { DriverModule, OptionHelp, TreeArchive } from '../src/driver.ts'
import { capabilitiesOf, capabilityNames } from '../src/services/node/node.ts'

const readme = new URL('../README.md', import.meta.url)
const begin = '<!-- drivers: written by scripts/driver-table.ts -->'
const end = '<!-- end of drivers -->'

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function optionRows(prefix: string, options: Readonly<Record<string, OptionHelp>>): string[][] {
  return Object.entries(options).map(([key, { description, example }]) => {
    const shown = example === undefined ? '' : `, such as \`${prefix}${key}=${example}\``
    return [`\`${prefix}${key}\``, `${description}${shown}`]
  })
}

/** Drivers are only asked here what they are. */
async function unused(): Promise<never> {
  throw new Error('no driver keeps anything while its table is written')
}

const noArchive: TreeArchive = { save: unused, find: unused, restore: unused, delete: unused, prune: unused }

function describe(module: DriverModule): { row: string[]; options: string } {
  const driver = module.create({}, { root: '/var/lib/holdfast', archive: () => noArchive })
  const supported = capabilitiesOf(driver)
  const row = [
    `\`${module.name}\``,
    module.summary,
    driver.scope,
    ...capabilityNames.map((name) => (supported.includes(name) ? 'yes' : '-')),
  ]
  const settings = table(['setting (`--driver-opt`)', ''], optionRows(`${module.name}.`, module.settings))
  const options = table(['option (`-o`)', ''], optionRows('', driver.volumeOptions))
  return { row, options: `\n**${module.name}**\n\n${settings}\n\n${options}` }
}

const modules = await Promise.all(Object.values(driverModules).map((load) => load()))
const described = modules.map(describe)
const overview = table(
  ['driver', 'volumes are', 'scope', ...capabilityNames],
  described.map(({ row }) => row),
)
const wanted = `${begin}\n${overview}\n${described.map(({ options }) => options).join('\n')}\n${end}`

const before = readFileSync(readme, 'utf8')
const after = before.replace(new RegExp(`${begin}[^]*${end}`), () => wanted)
if (process.argv.includes('--check')) {
  if (after !== before) {
    console.error('README.md: the table of drivers is not what the drivers say; run: npm run docs')
    process.exitCode = 1
  }
} else writeFileSync(readme, after)
