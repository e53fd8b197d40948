/**
 * The test tiers as vitest projects: `vitest run --project unit`. A tier is a directory of test/; the lab tier is the files
 * that run under another kernel (scripts/lab/run), whatever their directory; those of the tiers hosts and cluster drive such kernels.
 */

import { defineConfig } from 'vitest/config'

/** Run by scripts/test inside the kernel lab and nowhere else. */
const labTests = ['test/conformance/*-lab.test.ts']

const minute = 60_000

/** Tiers that own a daemon, a dockerd or loop devices run one file at a time. */
function tier(name: string, options: { alone: boolean; timeoutMs: number }) {
  return {
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      exclude: labTests,
      fileParallelism: !options.alone,
      testTimeout: options.timeoutMs,
      hookTimeout: Math.max(options.timeoutMs, minute),
    },
  }
}

export default defineConfig({
  test: {
    watch: false,
    pool: 'forks',
    // Worker threads strip types by a WebAssembly module of Node's. Node 24.21 dies now and then when a wrapper of such a module is
    // compiled anew while another thread ends: a budget that is never used up keeps wrappers as they are. Built code has no types.
    execArgv: ['--wasm-wrapper-tiering-budget=2000000000'],
    teardownTimeout: minute,
    projects: [
      tier('unit', { alone: false, timeoutMs: 30_000 }),
      tier('conformance', { alone: true, timeoutMs: 2 * minute }),
      tier('e2e', { alone: true, timeoutMs: 3 * minute }),
      tier('faults', { alone: true, timeoutMs: 3 * minute }),
      tier('hosts', { alone: true, timeoutMs: 5 * minute }),
      tier('cluster', { alone: true, timeoutMs: 5 * minute }),
      {
        extends: true,
        test: {
          name: 'lab',
          include: labTests,
          fileParallelism: false,
          testTimeout: 5 * minute,
          hookTimeout: 5 * minute,
        },
      },
    ],
  },
})
