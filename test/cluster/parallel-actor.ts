/** `node parallel-actor.ts COUNT` in a machine of the lab: so many volumes asked for at the same time, looked at, and removed. */

import { adminSocket, call } from '../support/admin-api.ts'

const names = Array.from({ length: Number(process.argv[2]) }, (_, number) => `p${number}`)
const api = <T>(method: string, path: string, body?: object): Promise<T> => call(adminSocket, method, path, body)

const begun = performance.now()
await Promise.all(names.map((name) => api('POST', '/v1/volumes', { name, size: '64M' })))
const seconds = (performance.now() - begun) / 1000
const there = await api<{ name: string }[]>('GET', '/v1/volumes')
const made = names.filter((wanted) => there.some(({ name }) => name === wanted)).length
await Promise.all(names.map((name) => api('DELETE', `/v1/volumes/${name}?purge=true`)))
console.log(JSON.stringify({ made, seconds }))
