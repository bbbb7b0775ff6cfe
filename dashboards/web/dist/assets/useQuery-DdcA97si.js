import{C as r,z as u}from"./refusal-CB9CNnRy.js";function a(e,s){return r(u,e)}export{a as u};
