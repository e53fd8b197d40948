/** Holds requests against their schemas. A schema is compiled, and the compiler loaded, when it is first needed: at start neither is. */

import { createRequire } from 'node:module'
import type { Ajv, Options, ValidateFunction } from 'ajv'
import type { FastifySchemaCompiler } from 'fastify'

/** Strings stay strings and no key is dropped: what is not understood is refused, not bent. */
const options: Options = { coerceTypes: false, removeAdditional: false, useDefaults: false, verbose: true }

let loaded: Ajv | undefined

function ajv(): Ajv {
  if (loaded) return loaded
  const module = createRequire(import.meta.url)('ajv') as typeof import('ajv')
  loaded = new module.Ajv({ ...options, allowUnionTypes: true })
  return loaded
}

/** Fastify's validator compiler. */
export const compileValidator: FastifySchemaCompiler<object> = ({ schema }) => {
  let validate: ValidateFunction | undefined
  return (value) => {
    validate ??= ajv().compile(schema)
    return validate(value) ? { value } : { error: validate.errors ?? [] }
  }
}
