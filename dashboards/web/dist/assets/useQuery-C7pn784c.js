import{z as r,w as u}from"./request-BB2Poo9s.js";function a(e,s){return r(u,e)}export{a as u};
