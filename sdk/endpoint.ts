import { Fault } from '../runtime/fault.ts';

/** The environment variable that names the Workload API's endpoint. */
export const ENDPOINT_VARIABLE = 'SPIFFE_ENDPOINT_SOCKET';

/**
 * The socket path in `unix:///absolute/path`, which is all that is accepted: no authority, query,
 * fragment or percent-encoding. `tcp://` is refused, since there a source address is all that the API
 * knows its caller by.
 * Source: SPIFFE Workload Endpoint 4.
 *
 * @throws Fault `INVALID_ARGUMENT`
 */
export function parseEndpoint(text: string): string {
  const path = text.slice('unix://'.length);
  const only = text.startsWith('unix:///') && !/[?#%\s\0]/.test(path);
  if (only && !path.endsWith('/')) return path;
  const shown = JSON.stringify(text.slice(0, 200));
  throw new Fault(
    'INVALID_ARGUMENT',
    `Workload API endpoint ${shown}: write unix:///absolute/path`,
  );
}

/**
 * The socket path of the endpoint that is given, or named by the environment.
 * @throws Fault `INVALID_ARGUMENT`
 */
export function endpointPath(given?: string): string {
  const text = given ?? process.env[ENDPOINT_VARIABLE] ?? '';
  if (text !== '') return parseEndpoint(text);
  throw new Fault('INVALID_ARGUMENT', `no Workload API endpoint: set ${ENDPOINT_VARIABLE}`);
}
