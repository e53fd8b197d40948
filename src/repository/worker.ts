/** The entry of every worker: takes tasks by name, runs them to their end, answers. The tasks themselves are in the files they are imported from. */

import { parentPort, workerData } from 'node:worker_threads'
import { type AnswerMessage, Bridge, errorMessage } from './bridge.ts'
import type { WorkerStart } from './crew.ts'
import { Seal } from './seal.ts'
import { doTask, type TaskContext } from './tasks.ts'

const start = workerData as WorkerStart
const context: TaskContext = { bridge: new Bridge(start), seal: new Seal(start.secrets) }

parentPort?.on('message', ({ task, args }: { task: string; args: unknown }) => void act(task, args))

async function act(task: string, args: unknown): Promise<void> {
  let message: AnswerMessage
  try {
    message = { id: 0, answer: await doTask(context, task, args) }
  } catch (error) {
    message = { id: 0, error: errorMessage(error) }
  }
  parentPort?.postMessage(message)
}
