import{C as r,z as u}from"./refusal-Bdbx36V0.js";function a(e,s){return r(u,e)}export{a as u};
