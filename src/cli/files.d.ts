declare module "*.so" {
  const path: string;
  export default path;
}
declare module "*/dsm-guard" {
  const path: string;
  export default path;
}
declare module "*.a" {
  const path: string;
  export default path;
}
declare module "*.node" {
  const path: string;
  export default path;
}
declare module "*.h" {
  const path: string;
  export default path;
}

declare module "*.py" {
  const path: string;
  export default path;
}

declare module "*/py.typed" {
  const path: string;
  export default path;
}

declare module "*.hpp" {
  const path: string;
  export default path;
}
declare module "*/dist/client/preload.js" {
  const path: string;
  export default path;
}
declare module "*/dist/dashboard/dashboard.js" {
  const path: string;
  export default path;
}
declare module "*.css" {
  const path: string;
  export default path;
}
declare module "*.svg" {
  const path: string;
  export default path;
}
declare module "*/dist/client/header.js" {
  const path: string;
  export default path;
}
