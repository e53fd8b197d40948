/**
 * Reads what Docker sends. It knows JSON and types; what a name or an option means is the services' to say.
 * dockerd repeats a request whose connection broke with an empty body: nothing may ever be read into an absent field.
 */

import { AppError } from '../src/errors.ts'

/** The body of a request: an object that names a volume. */
export interface VolumeRequest {
  readonly name: string
  readonly fields: Readonly<Record<string, unknown>>
}

function invalid(message: string): AppError {
  return new AppError('INVALID_ARGUMENT', message)
}

/**
 * @param body the text as it came, or undefined
 * @throws INVALID_ARGUMENT when it is empty, broken or without a name
 */
export function parseVolumeRequest(body: unknown): VolumeRequest {
  if (typeof body !== 'string' || body.trim() === '') {
    throw invalid(
      'the request came without its body, as Docker repeats one whose connection broke; run the command again',
    )
  }
  const fields = parseObject(body)
  const name = fields['Name']
  if (typeof name !== 'string' || name === '') {
    throw invalid(`the request names no volume; send {"Name": "..."}`)
  }
  return { name, fields }
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalid(`the request's body is not JSON: ${(error as Error).message}`)
  }
  if (isObject(value)) return value
  throw invalid('the body of the request is not a JSON object')
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Docker's mount id: which container, or which moment of it, holds the volume. @throws INVALID_ARGUMENT when missing */
export function mountIdOf(request: VolumeRequest): string {
  const id = request.fields['ID']
  if (typeof id === 'string' && id !== '') return id
  throw invalid(`the request for volume ${request.name} has no mount id; send {"Name": "...", "ID": "..."}`)
}

/** The `-o` options; `null` and absent are none. @throws INVALID_ARGUMENT for anything but strings */
export function optionsOf(request: VolumeRequest): Readonly<Record<string, string>> {
  const opts = request.fields['Opts'] ?? {}
  if (!isObject(opts)) throw invalid(`the options of volume ${request.name} are not a JSON object`)
  for (const [key, value] of Object.entries(opts)) {
    if (typeof value !== 'string') throw invalid(`option '${key}' of volume ${request.name} is not a string`)
  }
  return opts as Readonly<Record<string, string>>
}
