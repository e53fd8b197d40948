/**
 * Adds up a run of scripts/test: `node tally.ts DIRECTORY` reads the file `steps` (lines of KIND, NAME and exit code, with
 * tabs between) and vitest's JSON reports `NAME.json`, says what failed, and prints `N passed, N failed, N skipped`.
 * Exit code 1 when anything failed. Under CI a skipped test fails unless allowed-skips.json has its full title with a reason.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** The part of vitest's JSON report that counts. */
interface Report {
  readonly testResults: readonly {
    readonly name: string
    readonly status: string
    readonly assertionResults: readonly {
      readonly fullName: string
      readonly status: string
      readonly failureMessages?: readonly string[]
    }[]
  }[]
}

/** What happened to one test or step. */
interface Outcome {
  readonly title: string
  readonly result: 'passed' | 'failed' | 'skipped'
  /** Of a test that failed: what it said, with a stack. */
  readonly why?: string
}

/** A step that is not a test run counts as one. */
function stepOutcome(kind: string, name: string, exitCode: number): Outcome {
  return { title: `${kind} ${name}`, result: exitCode === 0 ? 'passed' : 'failed' }
}

/** A run that ended badly without a failed test (it crashed, timed out, had no test) counts as one failure more. */
function tierOutcomes(directory: string, tier: string, exitCode: number): Outcome[] {
  const outcomes = testOutcomes(readReport(join(directory, `${tier}.json`)), tier)
  const failed = outcomes.some((it) => it.result === 'failed')
  if (outcomes.length === 0) outcomes.push({ title: `tier ${tier}: no test ran`, result: 'failed' })
  else if (exitCode !== 0 && !failed) {
    outcomes.push({ title: `tier ${tier}: the runner ended with code ${exitCode}`, result: 'failed' })
  }
  return outcomes
}

function readReport(path: string): Report {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Report
  } catch {
    return { testResults: [] }
  }
}

function testOutcomes(report: Report, tier: string): Outcome[] {
  return report.testResults.flatMap((file) => {
    const tests = file.assertionResults.map((test) => ({
      title: `${tier}: ${test.fullName.trim()}`,
      result: test.status === 'passed' ? 'passed' : test.status === 'failed' ? 'failed' : 'skipped',
      why: test.failureMessages?.join('\n').slice(0, 2000) ?? '',
    })) satisfies Outcome[]
    const brokenFile = file.status === 'failed' && !tests.some((it) => it.result === 'failed')
    return brokenFile ? [...tests, { title: `${tier}: ${file.name} did not load`, result: 'failed' as const }] : tests
  })
}

function forbidSkips(outcomes: readonly Outcome[]): Outcome[] {
  const path = new URL('./allowed-skips.json', import.meta.url)
  const allowed = JSON.parse(readFileSync(path, 'utf8')) as readonly { title: string; reason: string }[]
  return outcomes.map((outcome) =>
    outcome.result === 'skipped' && !allowed.some((it) => outcome.title.endsWith(`: ${it.title}`) && it.reason)
      ? { title: `${outcome.title} (skipped, and not in allowed-skips.json)`, result: 'failed' }
      : outcome,
  )
}

function readOutcomes(directory: string): Outcome[] {
  const lines = readFileSync(join(directory, 'steps'), 'utf8').split('\n').filter(Boolean)
  return lines.flatMap((line) => {
    const [kind = '', name = '', code] = line.split('\t')
    return kind === 'tier' ? tierOutcomes(directory, name, Number(code)) : stepOutcome(kind, name, Number(code))
  })
}

const directory = process.argv[2] ?? '.'
const all = readOutcomes(directory)
const outcomes = process.env.CI === 'true' ? forbidSkips(all) : all
const count = (result: Outcome['result']) => outcomes.filter((it) => it.result === result).length

for (const { result, title, why } of outcomes) {
  if (result !== 'passed') console.log([`${result}: ${title}`, why].filter(Boolean).join('\n'))
}
console.log(`${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`)
process.exitCode = count('failed') === 0 && outcomes.length > 0 ? 0 : 1
