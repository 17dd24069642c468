/** Sallyport as a library: a node of a mesh inside a Node program (what tsnet is for Go). */

export { Fault } from "./base/fault.ts";
export { type CreateNodeOptions, createNode, type MeshListener, type Node } from "./library.ts";
