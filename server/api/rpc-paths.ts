import type { DescService } from '@bufbuild/protobuf';

/** Paths on the wire of some of a service's methods, e.g. `/grpc.health.v1.Health/Check`. */
export function rpcPaths<S extends DescService>(
  service: S,
  ...methods: readonly (keyof S['method'] & string)[]
): string[] {
  return methods.map((name) => {
    const method = service.methods.find(({ localName }) => localName === name);
    if (method === undefined) throw new Error(`${service.typeName} has no ${name}`);
    return `/${service.typeName}/${method.name}`;
  });
}
